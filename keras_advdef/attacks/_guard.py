"""What goes into an attack and what comes out: checked, and kept in the ball."""

from typing import TYPE_CHECKING, Any

import tensorflow as tf

from keras_advdef.core import streams
from keras_advdef.core.image_layout import value_count
from keras_advdef.core.labels import checked_labels, soft_labels, sparse_labels
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.norms import norm_per_image, per_image
from keras_advdef.core.predictions import check_finite_logits
from keras_advdef.core.random_numbers import fold_in
from keras_advdef.core.random_state import draw_scope
from keras_advdef.core.value_range import check_values, warn_small_epsilon

if TYPE_CHECKING:
    from keras_advdef.attacks.attack import Attack

# Float32 rounding enlarges norms of perturbations inside the ball by this share, and by
# two units of a float32 near one for each value.
_SHARE = 1e-5
_ROUNDING = 2.0**-22
# How the roundings of many values add up in each norm, as a power of their number.
_POWERS = {"linf": 0.0, "l2": 0.5, "l1": 1.0}


def given(attack: "Attack", labels: Any) -> tf.Tensor:
    """Returns labels as `perturb` takes them: rows only where the loss uses them.

    Args:
        attack: The attack.
        labels: Integer labels, one-hot or rows of probabilities.
    """
    return soft_labels(labels) if attack.takes_rows else sparse_labels(labels)


def given_or_predicted(
    attack: "Attack",
    logits_fn: LogitsFunction,
    images: tf.Tensor,
    labels: Any,
    key: tf.Tensor,
) -> tf.Tensor:
    """Returns labels as `perturb` takes them, or the model's own predictions.

    Args:
        attack: The attack.
        logits_fn: The attacked model.
        images: Clean images in `[0, 1]`.
        labels: Labels, or `None`.
        key: Key for the draws of a random model.
    """
    if labels is not None:
        return given(attack, labels)
    # Some class where logits are NaN, which a graph cannot refuse: losses need a label.
    with draw_scope(fold_in(key, streams.PREDICTION)):
        return tf.argmax(logits_fn(images), axis=-1)


def check_eager(attack: "Attack", images: tf.Tensor, labels: Any, epsilon: Any) -> None:
    """Raises if eager images or labels cannot be attacked.

    Args:
        attack: The attack.
        images: Images in its value range.
        labels: Labels, or `None`.
        epsilon: Epsilon of the call, or `None`; warns if it is too small to change
            anything.

    Raises:
        ValueError: If they cannot.
    """
    owner = type(attack).__name__
    radius = attack.epsilon if epsilon is None else epsilon
    if isinstance(radius, (int, float)):
        warn_small_epsilon(owner, radius, attack.value_range)
    check_values(owner, images.numpy(), attack.value_range)
    if labels is not None:
        checked_labels(owner, labels, count=len(images), classes=None)


def kept_in_ball(
    found: tf.Tensor, images: tf.Tensor, epsilon: Any, norm: str
) -> tf.Tensor:
    """Returns what an attack found, unchanged to the bit where it lies in the ball.

    Pixels outside `[0, 1]` are clipped, points outside the ball are pulled back towards
    the clean image ("l0": all the way), and an image with a value that is not finite is
    replaced by the clean one. So every attack on every model returns
    `norm <= epsilon * (1 + 1e-5)`, up to rounding: two float32 units at one for "linf",
    `sqrt(values)` of them for "l2" and `values` for "l1".

    Args:
        found: What the attack found, float32 of shape `(batch, ...)`.
        images: Clean images in `[0, 1]`, same shape.
        epsilon: Radius on the `[0, 1]` scale, a scalar or `(batch,)`; a count for "l0".
            What `Attack.reach` returns, for an attack.
        norm: "linf", "l2", "l1" or "l0".

    Returns:
        Tensor of the same shape.

    Example:

    >>> clean = tf.fill((3, 2), 0.5)
    >>> found = tf.constant([[0.6, 0.5], [0.9, 0.5], [np.nan, 0.5]])
    >>> keras_advdef.attacks._guard.kept_in_ball(found, clean, 0.1, "linf").numpy()
    array([[0.6, 0.5],
           [0.6, 0.5],
           [0.5, 0.5]], dtype=float32)
    """
    pixels = tf.clip_by_value(found, 0.0, 1.0)
    perturbation = pixels - images
    norms = norm_per_image(perturbation, norm)
    slack = _ROUNDING * value_count(images) ** _POWERS[norm] if norm in _POWERS else 0.0
    fits = norms <= epsilon * (1.0 + _SHARE) + slack
    share = 0.0 if norm == "l0" else epsilon / norms
    pulled = images + per_image(share, images) * perturbation
    pixels = tf.where(per_image(fits, images), pixels, pulled)
    pixels = tf.where(per_image(_are_finite(pixels), images), pixels, images)
    # Even a zero keeps its sign: what fits comes back to the bit.
    return tf.where(pixels == found, found, pixels)


def _are_finite(images: tf.Tensor) -> tf.Tensor:
    axes = list(range(1, images.shape.rank))
    return tf.reduce_all(tf.math.is_finite(images), axes)


def finite_looks(
    logits_fn: LogitsFunction, looks: list[tuple[LogitsFunction, tf.Tensor]]
) -> tf.Tensor | None:
    """Returns whether the logits seen for each clean image are finite.

    Args:
        logits_fn: The attacked model.
        looks: What `watch_logits` collected.

    Returns:
        Boolean tensor `(batch,)`; `None` if nothing was called on the clean images.

    Example:

    >>> logits_fn = keras_advdef.core.logits.LogitsFunction(lambda images: images)
    >>> looks = [(logits_fn, tf.constant([[0.0, 1.0], [np.inf, 0.0]]))]
    >>> keras_advdef.attacks._guard.finite_looks(logits_fn, looks).numpy()
    array([ True, False])
    """
    own = (logits_fn, logits_fn.full_precision)
    for seen, logits in looks:
        if seen in own:
            return _are_finite(logits)
    return None


def check_clean(
    attack: "Attack",
    logits_fn: LogitsFunction,
    images: tf.Tensor,
    key: tf.Tensor,
    looks: list[tuple[LogitsFunction, tf.Tensor]],
) -> None:
    """Raises if a model has logits that are not finite for eager images.

    Args:
        attack: The attack.
        logits_fn: The attacked model.
        images: Clean images in `[0, 1]`.
        key: Key for the draws of a random model.
        looks: What `watch_logits` collected; if nothing, one more forward pass is made.

    Raises:
        ValueError: If it has.

    Example:

    >>> logits_fn = keras_advdef.core.logits.LogitsFunction(lambda images: images)
    >>> key = keras_advdef.core.random_numbers.make_key(0)
    >>> attack = keras_advdef.attacks.FGSM(0.1)
    >>> keras_advdef.attacks._guard.check_clean(
    ...     attack, logits_fn, tf.ones((1, 2)), key, [])
    """
    seen = finite_looks(logits_fn, looks)
    owner, models = type(attack).__name__, {}
    if seen is not None:
        check_finite_logits(owner, "model", logits_fn.model, seen.numpy())
    else:
        models["model"] = logits_fn
    for name, model in attack.companions().items():
        models[name] = attack.logits_function(model)
        models[name].build(tuple(images.shape[1:]))
    for name, function in models.items():
        with draw_scope(fold_in(key, streams.FINITE_CHECK)):
            is_finite = _are_finite(function.full_precision(images))
        check_finite_logits(owner, name, function.model, is_finite.numpy())
