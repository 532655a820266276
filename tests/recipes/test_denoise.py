import keras
import numpy as np
import pytest

from keras_advdef.models import SmoothedClassifier
from keras_advdef.recipes import denoise
from tests.support.nets import small_net

SMALL = {"stddev": 0.3, "depth": 3, "filters": 8, "verbose": 0}


def flat_images(seed, count=256):
    # One brightness each, so that neighbours tell the noise.
    levels = np.random.default_rng(seed).uniform(size=(count, 1, 1, 1))
    return np.broadcast_to(levels, (count, 8, 8, 1)).astype("float32")


@pytest.mark.parametrize("span", [1.0, 255.0])
def test_removes_noise_and_leaves_the_classifier(span, tmp_path):
    net = small_net()
    before = [np.array(each) for each in net.weights]
    model = denoise(
        net,
        flat_images(0) * span,
        **{**SMALL, "stddev": 0.3 * span},
        value_range=(0.0, span),
        epochs=25,
        batch_size=32,
        learning_rate=3e-3,
    )
    clean = flat_images(1, 64) * span
    noise = 0.3 * span * np.random.default_rng(2).normal(size=clean.shape)
    left = model.layers[0](clean + noise.astype("float32")).numpy() - clean
    assert np.mean(left**2) < 0.4 * np.mean(noise**2)
    for now, old in zip(net.weights, before, strict=True):
        np.testing.assert_array_equal(now, old)
    model.save(tmp_path / "model.keras")
    copy = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(copy(clean), model(clean))
    smoothed = SmoothedClassifier(copy, stddev=0.3 * span)
    assert smoothed.certify(clean[:2], samples=20).radii.shape == (2,)


def test_repeats_on_bytes_and_pairs():
    images = (255 * flat_images(0, 40)).astype("uint8")
    found = [
        denoise(
            small_net(),
            data,
            **SMALL,
            value_range=(0, 255),
            stability=0.0,
            epochs=1,
            seed=3,
        ).layers[0](images[:2].astype("float32"))
        for data in (images, (images, np.zeros(40)))
    ]
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize(
    ("changed", "name"),
    [({"stddev": 0.0}, "stddev"), ({"depth": 1}, "depth"), ({"epochs": 0}, "epochs")],
)
def test_bad_arguments(changed, name):
    with pytest.raises(ValueError, match=f"`denoise` expects `{name}`"):
        denoise(small_net(), flat_images(0, 4), **{**SMALL, **changed})


def test_classifier_of_other_images():
    with pytest.raises(ValueError, match="`denoise` expects `classifier`"):
        denoise(small_net(), np.zeros((4, 6, 6, 1)), **SMALL)
    with pytest.raises(TypeError, match="`classifier`"):
        denoise(len, flat_images(0, 4), **SMALL)
