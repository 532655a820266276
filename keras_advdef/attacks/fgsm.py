"""FGSM: one step of steepest ascent."""

from typing import Any, ClassVar

import keras
import tensorflow as tf

from keras_advdef.attacks.gradient_attack import GradientAttack


@keras.saving.register_keras_serializable(package="keras_advdef")
class FGSM(GradientAttack):
    """Moves every image by one step of steepest ascent, of length epsilon.

    For "linf" that is `x + epsilon * sign(gradient)` (Goodfellow et al. 2015). With
    `random_start=True` and `step_size=1.25 * epsilon` it is the attack of fast
    adversarial training (Wong et al. 2020). Where most pixels lie at an end of their
    range, as the background of digits does, a start that is clipped leaves little but
    corners of the ball, and such training collapses: take `random_start="unclipped"`,
    as the authors do on MNIST. One step says little about robustness:
    PGD often breaks models that were trained only against FGSM.

    Args:
        epsilon: Number of at least 0. Radius of the ball, in the units of
            `value_range`; `None` if each call gives it.
        random_start: Where to begin; see `GradientAttack`.
        **kwargs: `step_size` (`None` for epsilon), `loss`, `norm`, `targeted`,
            `training`, `precision`, `eot_samples` and `value_range`; see
            `GradientAttack` and `Attack`.

    Raises:
        ValueError: If an argument is outside its bounds.

    Example:

    >>> attack = keras_advdef.attacks.FGSM(8, value_range=(0, 255))
    >>> attack.epsilon
    8.0
    """

    settled: ClassVar[dict[str, Any]] = {
        "steps": 1,
        "restarts": 1,
        "momentum": 0.0,
        "return_best": False,
        "early_eot_samples": None,
    }

    def __init__(
        self,
        epsilon: float | None = None,
        *,
        random_start: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            epsilon, random_start=random_start, **self.with_settled(kwargs)
        )

    def default_step_size(self, epsilon: tf.Tensor) -> tf.Tensor:
        """Returns epsilon."""
        return epsilon
