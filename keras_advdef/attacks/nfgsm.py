"""NFGSM: one step from a point in noise, to train on."""

from typing import Any, ClassVar

import keras
import tensorflow as tf

from keras_advdef.attacks.fgsm import FGSM
from keras_advdef.attacks.gradient_attack import GradientAttack
from keras_advdef.attacks.stepped_attack import State
from keras_advdef.core.errors import checked_number
from keras_advdef.core.logits import LogitsFunction


@keras.saving.register_keras_serializable(package="keras_advdef")
class NFGSM(GradientAttack):
    """Adds uniform noise, and then a step along the sign of the gradient there.

    An attack to train on (de Jorge et al. 2022, arXiv 2202.01181): at the price of
    FGSM, strong noise that is not cut to the ball keeps training from catastrophic
    overfitting for longer than FGSM with a random start. The noise is uniform in
    `[-noise_scale * epsilon, noise_scale * epsilon]`. As in the authors' code, the
    noisy image is clipped to the pixel range before the gradient is taken, and the
    result again.

    Results may lie `noise_scale * epsilon + step_size` from the image, by default three
    times epsilon. So they say nothing about robustness at epsilon, and evaluations and
    `validation_attack` refuse this attack.

    Args:
        epsilon: Number of at least 0. Radius of the ball against which the model is
            trained, in the units of `value_range`; `None` if each call gives it.
        noise_scale: Number of at least 0. Size of the noise, as a multiple of epsilon.
        **kwargs: `step_size` (`None` for epsilon, which follows a
            `PerturbationSchedule`), `loss`, `norm` ("linf" alone), `targeted`,
            `training`, `precision`, `eot_samples` and `value_range`; see
            `GradientAttack` and `Attack`.

    Raises:
        ValueError: If an argument is outside its bounds.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    >>> images = np.full((1, 8, 8, 1), 0.5, "float32")
    >>> moved = keras_advdef.attacks.NFGSM(0.1)(model, images, [0], seed=0) - images
    >>> bool(0.1 < np.abs(moved).max() <= 0.3 + 1e-6)
    True
    """

    norms = ("linf",)
    leaves_ball = True
    settled: ClassVar[dict[str, Any]] = {**FGSM.settled, "random_start": True}

    def __init__(
        self,
        epsilon: float | None = None,
        *,
        noise_scale: float = 2.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(epsilon, **self.with_settled(kwargs))
        self.noise_scale = checked_number("NFGSM", "noise_scale", noise_scale, low=0.0)

    def default_step_size(self, epsilon: tf.Tensor) -> tf.Tensor:
        """Returns epsilon."""
        return epsilon

    def reach(self, epsilon: tf.Tensor) -> tf.Tensor:
        """Returns the size of the noise plus the step; see `Attack.reach`."""
        return self.noise_scale * epsilon + self.step_length(epsilon)

    def init_state(
        self,
        logits_fn: LogitsFunction,
        images: tf.Tensor,
        labels: tf.Tensor,
        epsilon: tf.Tensor,
        key: tf.Tensor,
        run: tf.Tensor,
    ) -> State:
        """Returns the state in the noise; see `SteppedAttack.init_state`."""
        noise = self.noise_scale * epsilon
        return super().init_state(logits_fn, images, labels, noise, key, run)
