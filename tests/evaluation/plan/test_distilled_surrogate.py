import keras
import numpy as np
import pytest

from keras_advdef.attacks import PGD, Transfer
from keras_advdef.core.progress import Progress
from keras_advdef.evaluation._plan.distilled_surrogate import DistilledSurrogate
from keras_advdef.evaluation._run.ledger import Ledger


@pytest.fixture(scope="module")
def decided_images():
    """Images of two classes, by the half that is brighter."""
    rng = np.random.default_rng(0)
    images = rng.uniform(0.2, 0.8, (30, 8, 8, 1)).astype("float32")
    images[::2, :4] += 0.2
    images[1::2, 4:] += 0.2
    return images


def decide(images):
    import tensorflow as tf

    halves = tf.stack(
        [
            tf.reduce_mean(images[:, :4], (1, 2, 3)),
            tf.reduce_mean(images[:, 4:], (1, 2, 3)),
        ],
        axis=1,
    )
    # Only decisions, without a gradient.
    return tf.one_hot(tf.argmax(halves, axis=1), 2)


@pytest.fixture
def make_distilled(make_request, make_judge, decided_images):
    def make(folder=None, **changes):
        arguments = {"images": decided_images, "labels": np.arange(30) % 2, **changes}
        request = make_request(model=decide, epsilon=0.15, **arguments)
        distilled = DistilledSurrogate(request, 2)
        ledger = Ledger(folder, {"a": 1}, Progress())
        distilled.teach(make_judge(request), ledger)
        ledger.close(finished=False)
        return distilled

    return make


def test_images_crafted_on_it_fool_the_model(make_distilled, decided_images):
    distilled = make_distilled()
    labels = np.arange(30) % 2
    attack = Transfer(distilled.model, PGD(0.15, steps=20))
    assert distilled.made(attack)
    found = attack.generate(decide, decided_images, labels, seed=0, verbose=0)
    assert (decide(found).numpy().argmax(axis=1) != labels).mean() > 0.9


def test_weights_are_kept(make_distilled, tmp_path):
    written, read = make_distilled(tmp_path), make_distilled(tmp_path)
    for one, other in zip(
        written.model.get_weights(), read.model.get_weights(), strict=True
    ):
        assert np.array_equal(one, other)


def test_knows_its_own_attacks(make_request):
    distilled = DistilledSurrogate(make_request(), 2)
    assert not distilled.made(Transfer(len, PGD(0.1)))
    assert not distilled.made(PGD(0.1))


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (2, 3, 1), (33, 17, 3), (224, 224, 3)], ids=str
)
def test_images_of_any_size(shape, make_request):
    images = np.full((2, *shape), 0.5)
    distilled = DistilledSurrogate(make_request(images=images, labels=[0, 1]), 5)
    assert distilled.model.output_shape == (None, 5)
    # A net that is quickly trained, whatever the size of the images.
    assert distilled.model.count_params() < 2_000_000


def test_number_of_decisions(make_request):
    for count, queries in ((4, 400), (203, 20_000)):
        images = np.full((count, 2, 2, 1), 0.5)
        request = make_request(images=images, labels=np.zeros(count), budget="full")
        assert DistilledSurrogate(request, 2).queries == queries


def test_channels_may_come_first(make_request, monkeypatch):
    monkeypatch.setattr(keras.config, "image_data_format", lambda: "channels_first")
    images = np.full((2, 3, 33, 17), 0.5, "float32")
    request = make_request(images=images, labels=[0, 1])
    model = DistilledSurrogate(request, 5).model
    # No CPU could run it otherwise.
    assert model(images).shape == (2, 5)
