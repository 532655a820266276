"""APGD: PGD that finds its own step size."""

from typing import Any, ClassVar

import keras
import tensorflow as tf

from keras_advdef.attacks import _apgd_momentum as apgd_momentum
from keras_advdef.attacks import _apgd_sparse as apgd_sparse
from keras_advdef.attacks.gradient_attack import GradientAttack
from keras_advdef.attacks.stepped_attack import State
from keras_advdef.core.logits import LogitsFunction


@keras.saving.register_keras_serializable(package="keras_advdef")
class APGD(GradientAttack):
    """Projected ascent with momentum that halves its step where progress ends.

    Starts on the surface of the ball with steps of 2 epsilon. At checkpoints that
    come closer and closer, an image whose loss did not rise in three steps of four
    goes back to its best point with half the step, so there is nothing to tune (Croce
    and Hein 2020, ICML). In the l1 ball steps are sparse, without momentum, and begin
    in balls of three and two epsilon (Croce and Hein 2021, ICML).

    Args:
        epsilon: Number of at least 0. Radius of the ball, in the units of
            `value_range`; `None` if each call gives it.
        steps: Gradient steps of one run.
        **kwargs: `loss`, `restarts`, `norm`, `targeted`, `training`, `precision`,
            `eot_samples` and `value_range`; see `GradientAttack`, `SteppedAttack` and
            `Attack`.

    Raises:
        ValueError: If an argument is outside its bounds.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(4)])
    >>> images = np.full((1, 2, 2, 1), 0.5, "float32")
    >>> attack = keras_advdef.attacks.APGD(0.1, steps=5, loss="dlr")
    >>> adversarial = attack.generate(model, images, [0], seed=0, verbose=0)
    >>> bool(np.abs(adversarial - images).max() <= 0.1 + 1e-6)
    True
    """

    moving: ClassVar[tuple[str, ...]] = tuple(
        dict.fromkeys(
            (*GradientAttack.moving, *apgd_momentum.MOVING, *apgd_sparse.MOVING)
        )
    )

    settled: ClassVar[dict[str, Any]] = {
        "step_size": None,
        "random_start": "surface",
        "momentum": 0.0,
        "return_best": True,
    }

    def __init__(
        self, epsilon: float | None = None, *, steps: int = 100, **kwargs: Any
    ) -> None:
        super().__init__(epsilon, steps=steps, **self.with_settled(kwargs))
        self._windows = apgd_momentum.windows(self.steps)

    def init_state(
        self,
        logits_fn: LogitsFunction,
        images: tf.Tensor,
        labels: tf.Tensor,
        epsilon: tf.Tensor,
        key: tf.Tensor,
        run: tf.Tensor,
    ) -> State:
        """Returns the state before the first step; see `SteppedAttack.init_state`."""
        is_sparse = self.norm == "l1"
        radius = apgd_sparse.first_radius(epsilon) if is_sparse else epsilon
        state = super().init_state(logits_fn, images, labels, radius, key, run)
        schedule = apgd_sparse.init_state if is_sparse else apgd_momentum.init_state
        return schedule(state, epsilon)

    def keep_best(self, state: State, losses: tf.Tensor, broken: tf.Tensor) -> State:
        """Compares the current point with the best one, if it is in the real ball."""
        if self.norm == "l1":
            inside = state["scale"] <= 1.0
            losses = tf.where(inside, losses, tf.float32.min)
            broken &= inside
        return super().keep_best(state, losses, broken)

    def update(
        self,
        state: State,
        losses: tf.Tensor,
        gradient: tf.Tensor,
        epsilon: tf.Tensor,
        taken: tf.Tensor,
    ) -> State:
        """Returns the state with its iterate moved; see `GradientAttack.step`."""
        if self.norm == "l1":
            return apgd_sparse.step(
                state,
                losses,
                gradient,
                epsilon=epsilon,
                taken=taken,
                steps=self.steps,
            )
        return apgd_momentum.step(
            state,
            losses,
            gradient,
            epsilon=epsilon,
            norm=self.norm,
            taken=taken,
            table=self._windows,
        )

    def __str__(self) -> str:
        loss = self.loss if isinstance(self.loss, str) else type(self.loss).__name__
        restarts = f" x {self.restarts}" * (self.restarts > 1)
        return f"APGD-{self.steps} on {loss}{restarts}"
