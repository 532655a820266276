"""The contract of every penalty."""

import json

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.core.random_numbers import make_key
from keras_advdef.core.random_state import draw_scope
from keras_advdef.training import AdversarialTrainingModel
from tests.support.nets import small_net, sparse_loss, weights_of


def check_penalty(cls, arguments, images, labels) -> None:
    """Puts one penalty class through the contract."""
    _check_config(cls, arguments)
    penalty = cls(**arguments)
    front = [keras.layers.BatchNormalization()]
    model = AdversarialTrainingModel(small_net(front=front), penalties=[penalty])
    before = weights_of(model)
    values = _check_values(penalty, model, images, labels)
    # Moving averages stay unchanged only with `training=False`.
    for old, new in zip(before, weights_of(model), strict=True):
        np.testing.assert_array_equal(old, new)
    twice = cls(**{**arguments, "weight": 2.0 * penalty.weight})
    doubled = _values(twice, model, images, labels)
    np.testing.assert_allclose(doubled, 2.0 * values, rtol=1e-4)
    _check_order(penalty, model, images, labels)
    _check_models(penalty, images, labels)
    model.compile(keras.optimizers.SGD(1e-3), sparse_loss())
    history = model.fit(images, labels, verbose=0).history
    assert np.isfinite(history["loss"]).all()


def _check_config(cls, arguments) -> None:
    penalty = cls(**arguments)
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(penalty)))
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is cls
    assert copy.get_config() == penalty.get_config() == penalty.get_config() | arguments


def _values(penalty, model, images, labels) -> tf.Tensor:
    with draw_scope(make_key(1)):
        return penalty(model, tf.constant(images), tf.constant(labels))


def _check_values(penalty, model, images, labels) -> tf.Tensor:
    with tf.GradientTape() as tape:
        values = _values(penalty, model, images, labels)
        total = tf.reduce_sum(values)
    assert values.shape == (len(images),)
    assert values.dtype == "float32"
    assert np.isfinite(values).all()
    gradients = tape.gradient(total, model.trainable_weights)
    known = [gradient for gradient in gradients if gradient is not None]
    assert all(np.isfinite(gradient).all() for gradient in known)
    assert any(np.any(gradient != 0) for gradient in known), "no weight is changed"
    compiled = tf.function(lambda: _values(penalty, model, images, labels))
    np.testing.assert_allclose(compiled(), values, rtol=1e-3, atol=1e-6)
    return values


def _check_order(penalty, model, images, labels) -> None:
    """An image's penalty does not depend on the others, unless they share draws."""
    order = np.random.default_rng(0).permutation(len(images))
    values = _values(penalty, model, images, labels)
    with draw_scope(make_key(2)):
        other = penalty(model, tf.constant(images), tf.constant(labels))
    if np.array_equal(values, other):
        permuted = _values(penalty, model, images[order], labels[order])
        np.testing.assert_allclose(
            permuted, tf.gather(values, order), rtol=1e-3, atol=1e-6
        )


def _check_models(penalty, images, labels) -> None:
    """Training model, plain classifier and softmax head give the same values."""
    net, other = small_net(), small_net(head="softmax")
    other.set_weights(net.get_weights())
    model = AdversarialTrainingModel(net, penalties=[penalty])
    expected = _values(penalty, model, images, labels)
    for each in (net, other):
        found = _values(penalty, each, images, labels)
        np.testing.assert_allclose(found, expected, rtol=1e-3)
