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
from tests.support.modes import compiled_by_xla
from tests.support.nets import busy_net, small_net, weights_of

# The rounding error of a float32 near one.
_ROUNDING = 1.2e-7
# Walks along the decision boundary diverge once rounding flips a prediction.
_WALKS = (BoundaryAttack, HopSkipJump)


def check_attack(cls, arguments, net, images, labels, *, whole=True) -> None:
    """Puts one attack through the contract on `[0, 1]` images.

    All that is asked of it in graphs is asked of one trace; in the whole contract, of
    one that learns all sizes only when it runs.

    Args:
        cls: The attack's class.
        arguments: Arguments of the constructor.
        net: A trained net on the images.
        images: A few images.
        labels: Their classes.
        whole: Whether to check as well what depends on the code of the class and hardly
            on the arguments.
    """
    attack = cls(**arguments)
    plain, net = net, _attackable(cls, net)
    _check_config(cls, arguments)
    many = _copies(images, labels)
    traced = (
        _traced_for_any_size(attack, net, many[1].dtype)
        if whole and net is plain
        else _traced(attack, net, *many)
    )
    assert missing_kernels_of(traced) == {}
    craft = _caller(traced)
    _check_ball(attack, craft, *many)
    found = _check_seeds(attack, craft, *many)
    eager = _check_eager(attack, net, *many, found)
    _check_units(cls, arguments, net, *many, eager)
    _check_generate(attack, net, images, labels)
    if isinstance(attack, MinimalAttack):
        _check_found(attack, net, images, labels)
    if not whole:
        return
    _check_xla(attack, net, traced, *many, found)
    _check_fresh_draws(attack, net, images, labels)
    _check_side_effects(cls, arguments, images, labels)
    _check_half_precision(attack, images, labels)
    _check_copies(attack, net, images, labels)
    _check_early(attack, net, images, labels)


def _copies(images, labels):
    """Enough images that some may diverge by rounding."""
    return np.concatenate([images] * 20), np.concatenate([labels] * 20)


def _traced(attack, net, images, labels):
    """Traces an attack as a function of images, labels, epsilon and key.

    As constants, whatever follows from them alone would be computed while the graph is
    optimized, which takes long.

    Args:
        attack: The attack.
        net: The attacked net.
        images: Images, or the specification of such.
        labels: The same of their labels.
    """

    def craft(images, labels, epsilon, key):
        return attack(net, images, labels, epsilon=epsilon, seed=key)

    function = tf.function(craft, autograph=False)
    images, labels = (
        each if isinstance(each, tf.TensorSpec) else tf.constant(each)
        for each in (images, labels)
    )
    return function.get_concrete_function(images, labels, tf.constant(0.0), make_key(0))


def _traced_for_any_size(attack, net, labels):
    of_any_size = keras.Sequential([keras.Input((None, None, 1)), *net.layers])
    images, labels = tf.TensorSpec([None, None, None, 1]), tf.TensorSpec([None], labels)
    return _traced(attack, of_any_size, images, labels)


def _caller(function):
    """A function of arrays, a number and an integer seed, for one of tensors."""

    def call(images, labels, epsilon, seed):
        inputs = map(tf.constant, (images, labels))
        return function(*inputs, tf.constant(epsilon, tf.float32), make_key(seed))

    return call


def _attackable(cls, net) -> keras.Model:
    """Returns the net, behind a projection for the attack that needs one."""
    if cls is not LatentSpaceAttack:
        return net
    projection = GenerativeProjection(
        small_generator(), steps=5, restarts=2, learning_rate=2.0, seed=0
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


def _within_reach(attack, result, images) -> bool:
    """Whether all results lie as near to their images as the attack says.

    That is epsilon unless it says that its results leave the ball.
    """
    reach = float(attack.reach(tf.constant(attack.epsilon)))
    if not attack.leaves_ball:
        np.testing.assert_allclose(reach, attack.epsilon, rtol=1e-6)
    return inside(result, images, reach, attack.norm)


def _check_ball(attack, craft, images, labels) -> None:
    corners = np.concatenate([images[:3].round(), images[3:]])
    for batch in (images, corners):
        result = craft(batch, labels, attack.epsilon, 1).numpy()
        _check_range(attack, result, batch)
        assert distance(result, batch, attack.norm).max() > 0
    nothing = craft(images, labels, 0.0, 1)
    np.testing.assert_allclose(nothing, images, atol=_ROUNDING)


def _check_range(attack, result, images) -> None:
    assert result.dtype == np.float32
    assert result.shape == images.shape
    assert result.min() >= 0.0
    assert result.max() <= 1.0
    assert _within_reach(attack, result, images)


def _check_seeds(attack, craft, images, labels) -> tf.Tensor:
    one, again = (craft(images, labels, attack.epsilon, 1) for _ in range(2))
    np.testing.assert_array_equal(one, again)
    if _starts_at_random(attack):
        assert np.any(one != craft(images, labels, attack.epsilon, 2))
    return one


def _starts_at_random(attack) -> bool:
    return isinstance(attack, GradientAttack) and bool(attack.random_start)


def _check_fresh_draws(attack, net, images, labels) -> None:
    if _starts_at_random(attack):
        one, other = (attack(net, images, labels) for _ in range(2))
        assert np.any(one != other)


def _check_eager(attack, net, images, labels, expected) -> tf.Tensor:
    """An eager call, with labels of the other kind, finds what the trace found."""
    before = images.copy()
    one_hot = np.eye(3, dtype="float32")[labels]
    found = attack(net, images, one_hot, seed=1)
    np.testing.assert_array_equal(images, before)
    _check_range(attack, found.numpy(), images)
    # An image diverges where rounding flips a prediction.
    apart = np.abs(found - expected).max(axis=(1, 2, 3))
    assert np.mean(apart <= 1e-6) >= 0.95
    _check_equally_strong(attack, net, labels, found, expected)
    return found


def _losses(net, images, labels):
    with draw_scope(make_key(0)):
        logits = net(images)
    broken = np.argmax(logits, axis=-1) != labels
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits), broken


def _loss_tolerance(attack) -> float:
    return 0.1 if isinstance(attack, _WALKS) else 0.01


def _check_equally_strong(attack, net, labels, found, expected) -> None:
    loss, broken = _losses(net, found, labels)
    expected_loss, expected_broken = _losses(net, expected, labels)
    assert np.mean(broken == expected_broken) >= 0.99
    near = _loss_tolerance(attack)
    np.testing.assert_allclose(np.mean(loss), np.mean(expected_loss), rtol=near)


def _check_xla(attack, net, traced, images, labels, expected) -> None:
    compiled = _caller(compiled_by_xla(traced))
    found = compiled(images, labels, attack.epsilon, 1)
    _check_equally_strong(attack, net, labels, found, expected)


def _check_side_effects(cls, arguments, images, labels) -> None:
    net = _attackable(cls, busy_net())
    net.compile("sgd", "mse")
    for training in (False, True):
        attack = cls(**arguments, training=training)
        before = weights_of(net)
        craft = _caller(_traced(attack, net, images, labels))
        one, again = (craft(images, labels, attack.epsilon, 1) for _ in range(2))
        np.testing.assert_array_equal(one, again)
        for old, new in zip(before, weights_of(net), strict=True):
            np.testing.assert_array_equal(old, new)


def _check_units(cls, arguments, net, images, labels, unit) -> None:
    """The same attack on 0 to 255: epsilon, step size and images scale."""
    scaled = {**arguments, "value_range": (0, 255)}
    lengths = ["step_size", "delta", "theta"]
    lengths += ["epsilon"] * (cls(**arguments).norm != "l0")
    scaled.update(
        {name: 255 * arguments[name] for name in lengths if name in arguments}
    )
    wide = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Rescaling(1 / 255)])
    wide.add(net)
    result = cls(**scaled)(wide, 255 * images, labels, seed=1)
    if cls(**arguments).norm != "l0":  # 255 * x / 255 does not equal x bit for bit
        assert _within_reach(cls(**arguments), result / 255, images)
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
    assert _within_reach(attack, result, images.astype("float16"))
    assert np.isfinite(result).all()


def _check_generate(attack, net, images, labels) -> None:
    whole = _generated(attack, net, images, labels)
    assert whole.dtype == np.float32
    assert whole.shape == images.shape
    assert _within_reach(attack, whole, images)
    one_hot = np.eye(3, dtype="float32")[labels]
    np.testing.assert_array_equal(whole, _generated(attack, net, images, one_hot))
    copied = pickle.loads(pickle.dumps(copy.deepcopy(copy.copy(attack))))
    assert repr(copied) == repr(attack)


def _generated(attack, net, images, labels) -> np.ndarray:
    return attack.generate(net, images, labels, seed=1, batch_size=4, verbose=0)


def _check_copies(attack, net, images, labels) -> None:
    """An attack can still be copied after it has been used."""
    whole = _generated(attack, net, images, labels)
    copied = pickle.loads(pickle.dumps(copy.deepcopy(copy.copy(attack))))
    np.testing.assert_array_equal(whole, _generated(copied, net, images, labels))


def _check_early(attack, net, images, labels) -> None:
    arguments = {"seed": 1, "batch_size": 4, "verbose": 0, "stop_early": True}
    if type(attack).fill is Attack.fill:
        with pytest.raises(ValueError, match="because this attack runs in one piece"):
            attack.generate(net, images, labels, **arguments)
        return
    early = attack.generate(net, images, labels, **arguments)
    assert _within_reach(attack, early, images)


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
