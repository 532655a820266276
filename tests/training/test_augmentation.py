import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import PGD
from keras_advdef.core.value_range import ValueRange
from keras_advdef.objectives import (
    AdversarialCrossEntropy,
    CrossEntropy,
    CrossLipschitz,
    DeepDefense,
)
from keras_advdef.training import AdversarialTrainingModel
from keras_advdef.training._augmentation import Augmentation
from tests.support.nets import sparse_loss

layers = keras.layers


def front():
    return [
        layers.RandomFlip("horizontal", seed=1),
        layers.RandomTranslation(0.2, 0.2, seed=2),
    ]


def sequential(first):
    return keras.Sequential([keras.Input((8, 8, 1)), *first, *body()])


def nested(first):
    inner = keras.Sequential([keras.Input((8, 8, 1)), *first])
    return keras.Sequential([keras.Input((8, 8, 1)), inner, *body()])


def pipeline(first):
    return sequential([layers.Pipeline(first)])


def functional(first):
    inputs = tensor = keras.Input((8, 8, 1))
    for layer in [*first, *body()]:
        tensor = layer(tensor)
    return keras.Model(inputs, tensor)


def body():
    keras.utils.set_random_seed(0)
    return [
        layers.Conv2D(4, 3, activation="relu"),
        layers.BatchNormalization(),
        layers.Flatten(),
        layers.Dense(3, kernel_regularizer="l2", activity_regularizer="l1"),
    ]


def trained(
    net,
    batches,
    labels,
    *,
    value_range=(0, 1),
    objective=None,
    penalties=(),
    eager=True,
):
    epsilon = 0.1 * value_range[1]
    attack = PGD(epsilon, steps=2, value_range=value_range)
    model = AdversarialTrainingModel(net, attack, objective, penalties, seed=5)
    model.compile(keras.optimizers.SGD(0.2), sparse_loss(), run_eagerly=eager)
    logs = [model.train_on_batch(x, labels, return_dict=True) for x in batches]
    return logs, [np.array(w) for w in net.weights if "seed" not in w.path]


def augmented(images, times=2):
    """What the layers make of a batch when they stand in the data."""
    for _ in range(times):
        batch = tf.constant(images)
        for layer in _FRONT:
            batch = layer(batch, training=True)
        yield batch.numpy()


_FRONT: list = []


class TestAugmentation:
    @pytest.mark.parametrize(
        ("build", "objective", "penalties", "eager"),
        [
            (sequential, None, (), False),
            (nested, AdversarialCrossEntropy(0.5), (), True),
            (functional, CrossEntropy(), (CrossLipschitz(weight=0.1),), True),
            (sequential, None, (DeepDefense(steps=1, weight=0.1),), True),
            (pipeline, None, (), True),
        ],
    )
    def test_inside_it_trains_as_in_the_data(
        self, build, objective, penalties, eager, images, labels
    ):
        _FRONT[:] = front()
        options = {"objective": objective, "penalties": penalties, "eager": eager}
        outside = trained(sequential([]), augmented(images), labels, **options)
        inside = trained(build(front()), [images] * 2, labels, **options)
        for one, other in zip(inside[0], outside[0], strict=True):
            assert one == pytest.approx(other, rel=1e-5)
        for one, other in zip(inside[1], outside[1], strict=True):
            np.testing.assert_allclose(one, other, atol=2e-5)

    def test_behind_rescaling_images_stay_in_their_range(self, images, labels):
        _FRONT[:] = front()
        bytes_ = 255 * images
        options = {"value_range": (0, 255)}
        plain = sequential([layers.Rescaling(1 / 255)])
        outside = trained(plain, augmented(bytes_), labels, **options)
        mixed = sequential([layers.Rescaling(1 / 255), *front()])
        inside = trained(mixed, [bytes_] * 2, labels, **options)
        for one, other in zip(inside[1], outside[1], strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)

    def test_normalization_is_undone_too(self, images):
        net = sequential([layers.Normalization(mean=[0.4], variance=[0.04]), *front()])
        found = Augmentation(net)(images, ValueRange())
        assert found.shape == images.shape
        assert found.numpy().min() >= 0.0
        assert found.numpy().max() <= 1.0
        assert found.numpy().mean() == pytest.approx(images.mean(), abs=0.1)

    def test_the_classifier_stays_what_it_is(self, images, labels):
        net = sequential(front())
        names = [layer.name for layer in net.layers]
        before = net.get_config()
        augmentation = Augmentation(net)
        trained(net, [images], labels)
        assert [layer.name for layer in net.layers] == names
        assert net.get_config() == before
        np.testing.assert_allclose(
            augmentation.classifier(images), net(images, training=False), atol=1e-6
        )
        assert len(net.trainable_weights) == len(
            augmentation.classifier.trainable_weights
        )

    def test_a_classifier_without_augmentation_is_used_as_it_is(self, images):
        net = sequential([])
        augmentation = Augmentation(net)
        assert augmentation.classifier is net
        assert augmentation(images, None) is images
        assert augmentation.unsplit == []

    def test_what_is_called_as_at_inference_does_not_augment(self, images, labels):
        inner = sequential(front())
        inputs = keras.Input((8, 8, 1))
        net = keras.Model(inputs, inner(inputs, training=False))
        augmentation = Augmentation(net)
        assert augmentation.classifier is net
        assert augmentation.unsplit == []
        assert augmentation(images, None) is images

    def test_a_pipeline_that_rescales_too_stays_where_it_is(self):
        flip = layers.RandomFlip(name="flip")
        net = sequential([layers.Pipeline([layers.Rescaling(2.0), flip])])
        augmentation = Augmentation(net)
        assert augmentation.classifier is net
        assert augmentation.unsplit == ["flip"]

    @pytest.mark.parametrize("place", ["middle", "branch", "subclassed"])
    def test_what_cannot_be_split_off_is_named(self, place, images, labels):
        layer = layers.RandomFlip(name="flip")
        if place == "middle":
            first = [layers.Conv2D(1, 3, padding="same"), layer]
            net = sequential(first)
        elif place == "branch":
            inputs = keras.Input((8, 8, 1))
            both = layers.Add()([layer(inputs), inputs])
            net = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(both)))
        else:

            class Subclassed(keras.Model):
                def __init__(self):
                    super().__init__()
                    self.flip = layer
                    self.net = sequential([])

                def call(self, images, training=None):
                    return self.net(self.flip(images, training=training))

            net = Subclassed()
        with pytest.warns(UserWarning, match="before `flip`, which shift"):
            trained(net, [images], labels)

    def test_plain_training_leaves_augmentation_to_keras(self, images, labels):
        histories = []
        for wrap in (AdversarialTrainingModel, lambda net: net):
            model = wrap(sequential(front()))
            model.compile(keras.optimizers.SGD(0.2), sparse_loss())
            history = model.fit(images, labels, epochs=2, shuffle=False, verbose=0)
            histories.append(history.history["loss"])
        np.testing.assert_allclose(*histories, rtol=1e-6)
