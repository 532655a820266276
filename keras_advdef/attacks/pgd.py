"""PGD: projected gradient descent on the attacked image."""

from typing import Any

import keras
import tensorflow as tf

from keras_advdef.attacks.gradient_attack import GradientAttack

# Steps of 2.5 epsilon / steps can cross the ball from any start, and return.
_REACH = 2.5


@keras.saving.register_keras_serializable(package="keras_advdef")
class PGD(GradientAttack):
    """Many small steps of steepest ascent, each projected back onto the ball.

    Starts at a random point of the ball; every step is projected onto it and clipped to
    the value range (Madry et al. 2018). `momentum=1.0` gives MIM (Dong et al. 2018),
    and `loss="margin"` is the loss of Carlini and Wagner.

    Args:
        epsilon: Number of at least 0. Radius of the ball, in the units of
            `value_range`; `None` if each call gives it.
        steps: Gradient steps.
        **kwargs: `step_size` (`None` for 2.5 epsilon / steps), `loss`, `random_start`,
            `momentum`, `restarts`, `return_best`, `norm`, `targeted`, `training`,
            `precision`, `eot_samples` and `value_range`; see `GradientAttack`,
            `SteppedAttack` and `Attack`.

    Raises:
        ValueError: If an argument is outside its bounds.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    >>> images = np.full((1, 2, 2, 1), 0.5, "float32")
    >>> attack = keras_advdef.attacks.PGD(0.1, steps=5)
    >>> adversarial = attack.generate(model, images, [0], seed=0, verbose=0)
    >>> bool(np.abs(adversarial - images).max() <= 0.1 + 1e-6)
    True
    """

    def __init__(
        self, epsilon: float | None = None, *, steps: int = 40, **kwargs: Any
    ) -> None:
        super().__init__(epsilon, steps=steps, **kwargs)

    def default_step_size(self, epsilon: tf.Tensor) -> tf.Tensor:
        """Returns 2.5 epsilon / steps."""
        return _REACH * epsilon / self.steps

    def __str__(self) -> str:
        return f"PGD-{self.steps}" + (f" x {self.restarts}" * (self.restarts > 1))
