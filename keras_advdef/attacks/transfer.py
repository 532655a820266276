"""Transfer: images crafted on one model to fool another."""

from typing import Any

import keras
import tensorflow as tf

from keras_advdef.attacks.attack import Attack, Passes
from keras_advdef.core.errors import checked_instance
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.norms import NORMS


@keras.saving.register_keras_serializable(package="keras_advdef")
class Transfer(Attack):
    """Runs an attack on a surrogate model, and returns its images.

    A model that survives attacks on its own gradients but falls to images from an
    undefended copy hides its gradients (Papernot et al. 2017, "Practical black-box
    attacks against machine learning", ASIACCS). The attack never calls the attacked
    model.

    Args:
        surrogate: Keras model or function from images to logits, with the classes of
            the attacked model.
        attack: The attack that runs on it. Epsilon, norm, range and targets are its
            own.

    Raises:
        TypeError: If `attack` is not an `Attack`, or by `get_config`.

    Example:

    >>> layers = [keras.Input((2, 2, 1)), keras.layers.Flatten()]
    >>> surrogate = keras.Sequential([*layers, keras.layers.Dense(2)])
    >>> model = keras.Sequential([*layers, keras.layers.Dense(2)])
    >>> attack = keras_advdef.attacks.Transfer(
    ...     surrogate, keras_advdef.attacks.FGSM(0.1))
    >>> attack(model, np.full((1, 2, 2, 1), 0.5), [0]).shape
    TensorShape([1, 2, 2, 1])
    """

    norms = (*NORMS, "l0")

    def __init__(self, surrogate: Any, attack: Attack) -> None:
        self.attack = checked_instance("Transfer", "attack", attack, Attack)
        super().__init__(
            attack.epsilon,
            norm=attack.norm,
            value_range=attack.value_range,
            targeted=attack.targeted,
            training=attack.training,
        )
        self.surrogate = surrogate
        self.takes_mask = attack.takes_mask
        self.leaves_ball = attack.leaves_ball
        # Raises if it is not a model.
        attack.logits_function(surrogate)

    def perturb(
        self,
        logits_fn: LogitsFunction,
        images: tf.Tensor,
        labels: tf.Tensor,
        epsilon: tf.Tensor,
        seed: tf.Tensor,
    ) -> tf.Tensor:
        """Returns adversarial images in `[0, 1]`; see `Attack.perturb`."""
        surrogate_fn = self.attack.logits_function(self.surrogate)
        surrogate_fn.build(tuple(images.shape[1:]))
        surrogate_fn = surrogate_fn.within(logits_fn.mask, images)
        return self.attack.perturb(surrogate_fn, images, labels, epsilon, seed)

    def passes(self, classes: int, model: Any = None) -> Passes:
        """Returns what one image costs, in passes of the surrogate."""
        del model
        return self.attack.passes(classes, self.surrogate)

    def companions(self) -> dict[str, Any]:
        """Returns the surrogate; see `Attack.companions`."""
        return {"surrogate": self.surrogate}

    def radius(self, epsilon: Any) -> tf.Tensor:
        """Returns the epsilon of the call or of the attack; see `Attack.radius`."""
        return self.attack.radius(epsilon)

    def reach(self, epsilon: tf.Tensor) -> tf.Tensor:
        """Returns how far results of the attack may lie; see `Attack.reach`."""
        return self.attack.reach(epsilon)

    def replace(self, **changes: Any) -> "Transfer":
        """Returns a transfer of the attack with some of its arguments changed."""
        return type(self)(self.surrogate, self.attack.replace(**changes))

    def get_config(self) -> dict[str, Any]:
        """Refuses: a configuration would lose the surrogate's weights."""
        raise TypeError(
            "`Transfer` expects to be created where it is needed, because a "
            "configuration holds no weights. Received: a call of `get_config`. Save "
            "the surrogate with `surrogate.save(...)` and the configuration of "
            "`attack`; of a model that trains on it, save the trained classifier with "
            "`model.classifier.save(...)`, or `model.save_weights(...)`."
        )

    def __repr__(self) -> str:
        name = getattr(self.surrogate, "name", repr(self.surrogate))
        return f"Transfer(surrogate={name!r}, attack={self.attack!r})"

    def __str__(self) -> str:
        return f"transferred {self.attack}"
