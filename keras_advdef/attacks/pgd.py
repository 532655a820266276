"""PGD: projected gradient descent on the attacked image."""

from typing import Any

import keras
import tensorflow as tf

from keras_advdef.attacks.gradient_attack import GradientAttack

# Steps of 2.5 epsilon / steps can cross the ball from any start and turn back.
_REACH = 2.5


@keras.saving.register_keras_serializable(package="keras_advdef")
class PGD(GradientAttack):
    """Many small steps of steepest ascent, each projected back on the ball.

    Starts at a random point of the ball, steps, projects and clips to the pixels
    (Madry et al. 2018). With `momentum` it is
    MIM (Dong et al. 2018), with `loss="margin"` Carlini and Wagner's loss.

    Args:
        epsilon: Number of at least 0. Radius of the ball, in the units of
            `value_range`; `None` if each call gives it.
        norm: "linf", "l2" or "l1".
        steps: Gradient steps.
        step_size: Length of a step, in the units of `value_range`; `None` for
            2.5 epsilon / steps.
        loss: What to maximise: "cross_entropy", "margin", "dlr", "targeted_dlr", "kl"
            (to the clean prediction) or an `AttackLoss`.
        random_start: True (uniform in the ball), False (the image itself),
            "gaussian" (a normal perturbation of standard deviation 0.001) or
            "surface".
        momentum: Share of the last direction kept at each step; 0 for none, 1 in MIM.
        restarts: Independent repetitions, merged by success first, then by loss.
        return_best: Whether to return, per image, the strongest point met; False for
            the last point, as in Madry's code, which saves one forward pass.
        eot_samples: Draws of a random model whose loss gradients are averaged.
        targeted: Whether to reach `target_labels=` of the call.
        training: Whether the model is called as in training while crafting.
        precision: "float32", or "bfloat16" for passes that are faster where the
            processor has such units; see `core.precision`.
        value_range: Pair `(low, high)` in which the images lie.

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
        self,
        epsilon: float | None = None,
        *,
        norm: str = "linf",
        steps: int = 40,
        step_size: float | None = None,
        loss: Any = "cross_entropy",
        random_start: bool | str = True,
        momentum: float = 0.0,
        restarts: int = 1,
        return_best: bool = True,
        eot_samples: int = 1,
        targeted: bool = False,
        training: bool = False,
        precision: str = "float32",
        value_range: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        super().__init__(
            epsilon,
            norm=norm,
            steps=steps,
            step_size=step_size,
            loss=loss,
            random_start=random_start,
            momentum=momentum,
            restarts=restarts,
            return_best=return_best,
            eot_samples=eot_samples,
            targeted=targeted,
            training=training,
            precision=precision,
            value_range=value_range,
        )

    def default_step_size(self, epsilon: tf.Tensor) -> tf.Tensor:
        """Returns 2.5 epsilon / steps."""
        return _REACH * epsilon / self.steps

    def __str__(self) -> str:
        return f"PGD-{self.steps}" + (f" x {self.restarts}" * (self.restarts > 1))
