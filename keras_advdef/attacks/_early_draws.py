"""What steps of few draws remember: means over the looks at points before."""

import tensorflow as tf

from keras_advdef.core.norms import per_image

# Share of the mean that stays at each look.
_KEPT = 0.9

# Names of what is remembered in the state of an attack.
REMEMBERED = ("steady_loss", "steady_gradient")

_State = dict[str, tf.Tensor]


def remembering(state: _State) -> _State:
    """Returns the state of an attack before its first step, with nothing remembered.

    Args:
        state: The state of a `GradientAttack`.

    Example:

    >>> from keras_advdef.attacks._early_draws import remembering
    >>> state = {"iterate": tf.ones((1, 2)), "best_loss": tf.ones(1)}
    >>> remembering(state)["steady_loss"].numpy().tolist()
    [0.0]
    """
    loss, gradient = (tf.zeros_like(state[name]) for name in ("best_loss", "iterate"))
    return {**state, "steady_loss": loss, "steady_gradient": gradient}


def steadied(
    state: _State,
    losses: tf.Tensor,
    gradient: tf.Tensor,
    *,
    taken: tf.Tensor,
    is_early: tf.Tensor,
) -> tuple[_State, tf.Tensor, tf.Tensor]:
    """Returns the state, and means of losses and gradients over the steps so far.

    A step is short, so gradients a few steps apart differ less than those of a few
    draws: the mean of ten looks of four draws is nearer to that of all draws than four.

    Args:
        state: The state, from `remembering` on.
        losses: Losses of the iterate, `(batch,)`.
        gradient: Their gradients.
        taken: Steps taken before, float32, a scalar or `(batch,)`.
        is_early: Whether the step is one of few draws; others get what they see.

    Returns:
        The state, losses and gradient. A look without a loss or with a gradient that
        is not finite is not remembered.

    Example:

    >>> from keras_advdef.attacks._early_draws import remembering, steadied
    >>> state = remembering({"iterate": tf.zeros((1, 1)), "best_loss": tf.zeros(1)})
    >>> for taken, loss in enumerate((1.0, 2.0)):
    ...     state, mean, _ = steadied(
    ...         state, tf.constant([loss]), tf.ones((1, 1)),
    ...         taken=tf.constant(float(taken)), is_early=tf.constant(True))
    >>> round(mean.numpy().item(), 3)
    1.526
    """
    seen = tf.reduce_all(
        tf.math.is_finite(gradient), list(range(1, len(gradient.shape)))
    )
    seen &= tf.math.is_finite(losses)
    # The shares of all looks so far sum to one.
    share = tf.where(is_early, (1.0 - _KEPT) / (1.0 - _KEPT ** (taken + 1.0)), 1.0)
    loss = _mean(state["steady_loss"], losses, share, seen)
    direction = _mean(state["steady_gradient"], gradient, share, seen)
    state = {**state, "steady_loss": loss, "steady_gradient": direction}
    losses = tf.where(seen, loss, losses)
    return state, losses, tf.where(per_image(seen, gradient), direction, gradient)


def _mean(
    before: tf.Tensor, now: tf.Tensor, share: tf.Tensor, seen: tf.Tensor
) -> tf.Tensor:
    mean = before + per_image(share, before) * (now - before)
    return tf.where(per_image(seen, before), mean, before)
