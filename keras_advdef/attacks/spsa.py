"""SPSA: PGD on a gradient estimated from forward passes."""

from typing import Any, ClassVar

import keras
import tensorflow as tf

from keras_advdef.attacks.attack import Passes
from keras_advdef.attacks.gradient_attack import GradientAttack
from keras_advdef.attacks.losses.attack_loss import AttackLoss
from keras_advdef.attacks.stepped_attack import State
from keras_advdef.core.errors import checked_integer, checked_number
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.loops import fixed_loop
from keras_advdef.core.random_numbers import fold_in, uniform
from keras_advdef.core.random_state import draw_scope

# As PGD: steps of 2.5 epsilon / steps can cross the ball and turn back.
_REACH = 2.5
# The default of `delta`, in widths of the range.
_SHARE = 0.01


@keras.saving.register_keras_serializable(package="keras_advdef")
class SPSA(GradientAttack):
    """PGD without backward passes: gradients are estimated from pairs of points.

    Each pair moves all pixels by plus or minus delta at random, once in each direction.
    The loss difference over a pixel's own difference, averaged over the pairs, is an
    unbiased gradient estimate for a linear loss (Uesato et al. 2018). Momentum averages
    the estimates over steps, as Adam does in the paper. Points stay in the value range.
    A step costs `2 * samples + 1` forward passes and works where the gradient is
    missing or masked.

    Args:
        epsilon: Number of at least 0. Radius of the ball, in the units of
            `value_range`; `None` if each call gives it.
        steps: Steps along estimated gradients.
        samples: Pairs of points of each estimate.
        delta: Number above 0 and at most the width of `value_range`. How far a pair
            moves each pixel; `None` for a hundredth of the range. With
            `precision="bfloat16"` take more.
        loss: What to maximise; see `GradientAttack`.
        random_start: Where to begin; see `GradientAttack`.
        momentum: Share of the last direction kept at each step; 0 for none.
        **kwargs: `step_size` (`None` for 2.5 epsilon / steps), `restarts`, `norm`,
            `targeted`, `training`, `precision`, `eot_samples` (estimates that are
            averaged, though each pair sees its own draw already) and `value_range`; see
            `GradientAttack`, `SteppedAttack` and `Attack`.

    Raises:
        ValueError: If an argument is outside its bounds.

    Example:

    >>> def model(images):
    ...     return tf.stop_gradient(tf.reduce_mean(images, axis=(1, 2)) * [1.0, -1.0])
    >>> images = np.full((1, 4, 4, 1), 0.5, "float32")
    >>> attack = keras_advdef.attacks.SPSA(0.1, steps=5, samples=64)
    >>> adversarial = attack.generate(model, images, [0], seed=0, verbose=0)
    >>> bool(np.mean(adversarial) < 0.45)
    True
    """

    settled: ClassVar[dict[str, Any]] = {
        "return_best": True,
        "early_eot_samples": None,
    }

    def __init__(
        self,
        epsilon: float | None = None,
        *,
        steps: int = 100,
        samples: int = 128,
        delta: float | None = None,
        loss: str | AttackLoss = "margin",
        random_start: bool | str = False,
        momentum: float = 0.9,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            epsilon,
            steps=steps,
            loss=loss,
            random_start=random_start,
            momentum=momentum,
            **self.with_settled(kwargs),
        )
        owner, span = type(self).__name__, self.value_range.span
        self.samples = checked_integer(owner, "samples", samples, low=1)
        self.delta = delta
        if delta is not None:
            self.delta = checked_number(
                owner, "delta", delta, low=0.0, high=span, low_open=True
            )

    def default_step_size(self, epsilon: tf.Tensor) -> tf.Tensor:
        """Returns 2.5 epsilon / steps."""
        return _REACH * epsilon / self.steps

    def passes(self, classes: int, model: Any = None) -> Passes:
        """Returns what one image costs; see `Attack.passes`."""
        del model
        looks = self.steps * (1 + 2 * self.samples) + 1
        each = looks * self.eot_samples * self._loss.forward_passes
        forward = self.runs(classes) * (each + self._loss.looks_at_clean)
        return Passes(forward + self._loss.aims, 0)

    def look(
        self, logits_fn: LogitsFunction, state: State, key: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        """Returns loss, probabilities and estimated gradient of one draw."""
        with draw_scope(fold_in(key, 0)):
            losses, probabilities = self.losses(logits_fn, state, state["iterate"])
        return losses, probabilities, self._estimate(logits_fn, state, fold_in(key, 1))

    def _estimate(
        self, logits_fn: LogitsFunction, state: State, key: tf.Tensor
    ) -> tf.Tensor:
        """Returns the gradient estimated at the iterate from `samples` pairs."""
        delta = _SHARE if self.delta is None else self.delta / self.value_range.span
        above = logits_fn.confined(tf.minimum(state["iterate"] + delta, 1.0))
        below = logits_fn.confined(tf.maximum(state["iterate"] - delta, 0.0))
        shape = tf.unstack(tf.shape(above))

        def add(
            index: int | tf.Tensor, total: tuple[tf.Tensor, ...]
        ) -> tuple[tf.Tensor, ...]:
            fresh = fold_in(key, index)
            up = uniform(fold_in(fresh, 0), shape) < 0.5
            # The loop does not know the shape of a draw, but models may ask for it.
            is_up = tf.ensure_shape(up, above.shape)
            losses = []
            for pair in (
                tf.where(is_up, above, below),
                tf.where(is_up, below, above),
            ):
                # Both see the same draw of a random model: only the pixels differ.
                with draw_scope(fold_in(fresh, 1)):
                    losses.append(self.losses(logits_fn, state, pair)[0])
            rise = losses[0] - losses[1]
            # A pair with NaN says nothing; the others still do.
            rise = tf.where(tf.math.is_finite(rise), rise, 0.0)
            rise = tf.reshape(rise, [-1] + [1] * (len(shape) - 1))
            return (total[0] + tf.where(is_up, rise, -rise),)

        # Never unrolled: only one pair is in memory at a time.
        (total,) = fixed_loop(add, (tf.zeros_like(above),), self.samples, unroll=False)
        gradient = total / (self.samples * (above - below))
        return tf.where(tf.math.is_finite(gradient), gradient, 0.0)

    def __str__(self) -> str:
        return f"SPSA-{self.steps}" + (f" x {self.restarts}" * (self.restarts > 1))
