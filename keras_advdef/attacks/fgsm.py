"""FGSM: one step of steepest ascent."""

from typing import Any

import keras
import tensorflow as tf

from keras_advdef.attacks.gradient_attack import GradientAttack


@keras.saving.register_keras_serializable(package="keras_advdef")
class FGSM(GradientAttack):
    """Moves every image by one step of length epsilon along the steepest direction.

    For "linf" that is `x + epsilon * sign(gradient)` (Goodfellow et al. 2015). With
    `random_start=True` and `step_size=1.25 * epsilon` it is the attack of fast
    adversarial training (Wong et al. 2020). One step says little about robustness:
    models trained against FGSM alone often fall to PGD.

    Args:
        epsilon: Number of at least 0. Radius of the ball, in the units of
            `value_range`; `None` if each call gives it.
        norm: "linf", "l2" or "l1".
        random_start: True (uniform in the ball), False (the image itself),
            "gaussian" or "surface".
        step_size: Length of the step, in the units of `value_range`; `None` for
            epsilon.
        loss: "cross_entropy", "margin", "dlr", "kl" or an `AttackLoss`.
        eot_samples: Draws of a random model whose loss gradients are averaged.
        targeted: Whether to reach `target_labels=` of the call.
        training: Whether the model is called as in training while crafting.
        precision: "float32", or "bfloat16" for passes that are faster where the
            processor has such units; see `core.precision`.
        value_range: Pair `(low, high)` in which the images lie.

    Raises:
        ValueError: If an argument is outside its bounds.

    Example:

    >>> attack = keras_advdef.attacks.FGSM(8, value_range=(0, 255))
    >>> attack.epsilon
    8.0
    """

    def __init__(
        self,
        epsilon: float | None = None,
        *,
        norm: str = "linf",
        random_start: bool | str = False,
        step_size: float | None = None,
        loss: Any = "cross_entropy",
        eot_samples: int = 1,
        targeted: bool = False,
        training: bool = False,
        precision: str = "float32",
        value_range: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        super().__init__(
            epsilon,
            norm=norm,
            steps=1,
            step_size=step_size,
            loss=loss,
            random_start=random_start,
            momentum=0.0,
            restarts=1,
            return_best=False,
            eot_samples=eot_samples,
            targeted=targeted,
            training=training,
            precision=precision,
            value_range=value_range,
        )

    def default_step_size(self, epsilon: tf.Tensor) -> tf.Tensor:
        """Returns epsilon."""
        return epsilon
