"""The contract of every attack."""

import copy
import json
import pickle

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import (
    Attack,
    BoundaryAttack,
    GradientAttack,
    HopSkipJump,
    LatentSpaceAttack,
    MinimalAttack,
)
from keras_advdef.core.norms import norm_per_image
from keras_advdef.core.random_numbers import make_key
from keras_advdef.core.random_state import draw_scope
from keras_advdef.layers import GenerativeProjection
from tests.support.generators import small_generator
from tests.support.kernels import missing_kernels_of
from tests.support.nets import busy_net, small_net, weights_of

# The rounding error of a float32 near one.
_ROUNDING = 1.2e-7
# Walks along the decision boundary diverge once rounding flips a prediction.
_WALKS = (BoundaryAttack, HopSkipJump)


def check_attack(cls, arguments, net, images, labels) -> None:
    """Puts one attack class through the contract on `[0, 1]` images."""
    attack = cls(**arguments)
    net = _attackable(cls, net)
    _check_config(cls, arguments)
    _check_ball(attack, net, images, labels)
    _check_seeds(attack, net, images, labels)
    _check_same_everywhere(attack, net, images, labels)
    _check_side_effects(cls, arguments, images, labels)
    _check_units(cls, arguments, net, images, labels)
    _check_half_precision(attack, images, labels)
    _check_generate(attack, net, images, labels)
    if isinstance(attack, MinimalAttack):
        _check_found(attack, net, images, labels)


def _attackable(cls, net) -> keras.Model:
    """Returns the net, behind a projection for the attack that needs one."""
    if cls is not LatentSpaceAttack:
        return net
    projection = GenerativeProjection(
        small_generator(), steps=20, restarts=2, learning_rate=2.0, seed=0
    )
    return keras.Sequential([keras.Input((8, 8, 1)), projection, net])


def _check_config(cls, arguments) -> None:
    attack = cls(**arguments)
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(attack)))
    restored = keras.saving.deserialize_keras_object(config)
    assert repr(restored) == repr(attack)
    for name, value in arguments.items():
        assert getattr(restored, name) == value
        assert f"{name}={value!r}" in repr(attack)
    assert attack.replace(epsilon=0.05).epsilon == 0.05


def distance(result, images, norm) -> np.ndarray:
    """Norm of each perturbation, in float64."""
    difference = np.asarray(result, "float64") - np.asarray(images, "float64")
    return norm_per_image(tf.constant(difference), norm).numpy()


def inside(result, images, epsilon, norm) -> bool:
    """Whether all perturbations are in the ball, up to the rounding of a float32."""
    slack = _ROUNDING * (1 if norm == "linf" else np.prod(images.shape[1:]))
    return bool((distance(result, images, norm) <= epsilon * (1 + 1e-6) + slack).all())


def _check_ball(attack, net, images, labels) -> None:
    corners = np.concatenate([images[:3].round(), images[3:]])
    for batch in (images, corners):
        before = batch.copy()
        result = attack(net, batch, labels, seed=1).numpy()
        assert result.dtype == np.float32
        assert result.shape == batch.shape
        assert result.min() >= 0.0
        assert result.max() <= 1.0
        assert inside(result, batch, attack.epsilon, attack.norm)
        assert distance(result, batch, attack.norm).max() > 0
        np.testing.assert_array_equal(batch, before)
    nothing = attack(net, images, labels, epsilon=0.0, seed=1)
    np.testing.assert_allclose(nothing, images, atol=_ROUNDING)


def _check_seeds(attack, net, images, labels) -> None:
    one = attack(net, images, labels, seed=1)
    np.testing.assert_array_equal(one, attack(net, images, labels, seed=1))
    if isinstance(attack, GradientAttack) and attack.random_start:
        assert np.any(one != attack(net, images, labels, seed=2))
        assert np.any(attack(net, images, labels) != attack(net, images, labels))
    one_hot = np.eye(3, dtype="float32")[labels]
    np.testing.assert_array_equal(one, attack(net, images, one_hot, seed=1))


def _losses(net, images, labels):
    with draw_scope(make_key(0)):
        logits = net(images)
    broken = np.argmax(logits, axis=-1) != labels
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits), broken


def _loss_tolerance(attack) -> float:
    return 0.1 if isinstance(attack, _WALKS) else 0.01


def _check_same_everywhere(attack, net, images, labels) -> None:
    many = np.concatenate([images] * 20), np.concatenate([labels] * 20)
    eager_loss, eager_broken = _losses(net, attack(net, *many, seed=1), many[1])
    for jit in (False, True):
        compiled = tf.function(
            lambda x, y: attack(net, x, y, seed=1), jit_compile=jit, autograph=False
        ).get_concrete_function(*map(tf.constant, many))
        assert missing_kernels_of(compiled) == {}
        found = compiled(*map(tf.constant, many))
        loss, broken = _losses(net, found, many[1])
        assert np.mean(broken == eager_broken) >= 0.99
        near = _loss_tolerance(attack)
        np.testing.assert_allclose(np.mean(loss), np.mean(eager_loss), rtol=near)
        if not jit and not isinstance(attack, LatentSpaceAttack):
            _check_unknown_sizes(attack, net, many, found)


def _check_unknown_sizes(attack, net, many, expected) -> None:
    """A graph that learns all sizes only when it runs finds the same images."""
    of_any_size = keras.Sequential([keras.Input((None, None, 1)), *net.layers])
    found = tf.function(
        lambda x, y: attack(of_any_size, x, y, seed=1),
        input_signature=[
            tf.TensorSpec([None, None, None, 1]),
            tf.TensorSpec([None], many[1].dtype),
        ],
        autograph=False,
    )(*many)
    # An image diverges where rounding flips a prediction.
    apart = np.abs(found - expected).max(axis=(1, 2, 3))
    assert np.mean(apart <= 1e-6) >= 0.95


def _check_side_effects(cls, arguments, images, labels) -> None:
    net = _attackable(cls, busy_net())
    net.compile("sgd", "mse")
    for training in (False, True):
        attack = cls(**arguments, training=training)
        before = weights_of(net)
        compiled = tf.function(
            lambda a=attack: a(net, images, labels, seed=1), autograph=False
        )
        np.testing.assert_array_equal(compiled(), compiled())
        for old, new in zip(before, weights_of(net), strict=True):
            np.testing.assert_array_equal(old, new)


def _check_units(cls, arguments, net, images, labels) -> None:
    """The same attack on 0 to 255: epsilon, step size and images scale."""
    scaled = {**arguments, "value_range": (0, 255)}
    lengths = ["step_size", "delta", "theta"]
    lengths += ["epsilon"] * (cls(**arguments).norm != "l0")
    scaled.update(
        {name: 255 * arguments[name] for name in lengths if name in arguments}
    )
    unit = cls(**arguments)(net, images, labels, seed=1)
    wide = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Rescaling(1 / 255)])
    wide.add(net)
    result = cls(**scaled)(wide, 255 * images, labels, seed=1)
    if cls(**arguments).norm != "l0":  # 255 * x / 255 does not equal x bit for bit
        assert inside(result / 255, images, arguments["epsilon"], cls(**arguments).norm)
    # Rounding of the images may flip the signs of tiny gradients.
    losses = [np.mean(_losses(net, each, labels)[0]) for each in (unit, result / 255)]
    np.testing.assert_allclose(*losses, rtol=_loss_tolerance(cls(**arguments)))


def _check_half_precision(attack, images, labels) -> None:
    keras.config.set_dtype_policy("mixed_float16")
    try:
        net = _attackable(type(attack), small_net())
    finally:
        keras.config.set_dtype_policy("float32")
    result = attack(net, images.astype("float16"), labels, seed=1)
    assert result.dtype == "float32"
    assert inside(result, images.astype("float16"), attack.epsilon, attack.norm)
    assert np.isfinite(result).all()


def _check_generate(attack, net, images, labels) -> None:
    whole = attack.generate(net, images, labels, seed=1, batch_size=4, verbose=0)
    assert whole.dtype == np.float32
    assert whole.shape == images.shape
    assert inside(whole, images, attack.epsilon, attack.norm)
    again = attack.generate(net, images, labels, seed=1, batch_size=4, verbose=0)
    np.testing.assert_array_equal(whole, again)
    # An attack can still be copied after it has been used.
    copied = pickle.loads(pickle.dumps(copy.deepcopy(copy.copy(attack))))
    assert repr(copied) == repr(attack)
    again = copied.generate(net, images, labels, seed=1, batch_size=4, verbose=0)
    np.testing.assert_array_equal(whole, again)
    _check_early(attack, net, images, labels)


def _check_early(attack, net, images, labels) -> None:
    arguments = {"seed": 1, "batch_size": 4, "verbose": 0, "stop_early": True}
    if type(attack).fill is Attack.fill:
        with pytest.raises(ValueError, match="because this attack runs in one piece"):
            attack.generate(net, images, labels, **arguments)
        return
    early = attack.generate(net, images, labels, **arguments)
    assert inside(early, images, attack.epsilon, attack.norm)


def _check_found(attack, net, images, labels) -> None:
    """What a minimal attack reports about an image is true."""
    found = attack.search(net, images, labels, seed=1, batch_size=4, verbose=0)
    broken = attack.predict(net, found.images) != labels
    np.testing.assert_array_equal(found.success, broken)
    norms = distance(found.images, images, attack.norm)
    np.testing.assert_allclose(found.norms[broken], norms[broken], rtol=1e-4)
    assert np.isinf(found.norms[~broken]).all()
    np.testing.assert_array_equal(found.images[~broken], images[~broken])
    assert attack.replace(epsilon=None).epsilon is None
