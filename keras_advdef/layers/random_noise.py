"""RandomNoise: Gaussian noise in training and at inference."""

from typing import Any

import keras
import tensorflow as tf

from keras_advdef.core.cards import Break, DefenceCard, defence
from keras_advdef.core.errors import checked_choice, checked_number
from keras_advdef.core.gradients import are_defences_bypassed
from keras_advdef.core.random_numbers import normal
from keras_advdef.core.random_state import RandomLayer
from keras_advdef.layers._bulk_random import bulk_normal
from keras_advdef.layers._compiled import compiled

_GENERATORS = ("hash", "philox")


@defence(
    DefenceCard(
        summary="Adds Gaussian noise in training and at inference.",
        category="randomization",
        paper="Liu, Cheng, Zhang, Hsieh: Towards Robust Neural Networks via Random "
        "Self-Ensemble, ECCV 2018",
        claim="With noise before every convolution and averaged predictions, the model "
        "resists C&W on CIFAR-10, where undefended accuracy is below 10 %.",
        standing="broken",
        breaks=(
            Break(
                attack="EOT",
                result="no gain over plain training once gradients are averaged over "
                "draws",
                source="Zimmermann 2019",
            ),
        ),
        eot_samples=20,
        attacks=("PGD", "APGD"),
        training_cost="one normal draw per element",
        inference_cost="the same as in training, times the averaged predictions",
    )
)
@keras.saving.register_keras_serializable(package="keras_advdef")
class RandomNoise(RandomLayer):
    """Adds independent normal noise to every element of any tensor.

    Unlike `keras.layers.GaussianNoise`, it is active whatever `training` is. Nothing is
    clipped, since Random Self-Ensemble puts it between layers.

    Args:
        stddev: Number of at least 0. Standard deviation, in the units of the input.
        generator: "hash" for a fast hash of each element's position; or "philox" for
            TensorFlow's generator, the reference, at several times the cost on a CPU.
        **kwargs: `seed`, `name`, `dtype`; see `RandomLayer`.

    Input shape:
        Any, floats.

    Output shape:
        As the input.

    Raises:
        ValueError: If `stddev` is negative or not a number, or `generator` is unknown.

    Example:

    >>> layer = keras_advdef.layers.RandomNoise(0.1, seed=0)
    >>> bool(np.std(layer(np.zeros((1, 10000)))) < 0.11)
    True
    """

    def __init__(
        self, stddev: float, *, generator: str = "hash", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        owner = "RandomNoise"
        self.stddev = checked_number(owner, "stddev", stddev, low=0.0)
        self.generator = checked_choice(owner, "generator", generator, _GENERATORS)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns the inputs plus noise.

        Args:
            inputs: Float tensor of any shape.

        Returns:
            Tensor of the same shape and dtype.
        """
        if self.stddev == 0.0 or are_defences_bypassed():
            return inputs
        inputs = tf.convert_to_tensor(inputs)
        make = _hashed if self.generator == "hash" else _reference
        return make(self.next_key(), inputs, tf.constant(self.stddev))

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        """Returns the input shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "stddev": self.stddev,
            "generator": self.generator,
        }


@compiled
def _hashed(key: tf.Tensor, inputs: tf.Tensor, stddev: tf.Tensor) -> tf.Tensor:
    noise = stddev * bulk_normal(key, tf.shape(inputs))
    return inputs + tf.cast(noise, inputs.dtype)


def _reference(key: tf.Tensor, inputs: tf.Tensor, stddev: tf.Tensor) -> tf.Tensor:
    noise = stddev * normal(key, tf.unstack(tf.shape(inputs)))
    return inputs + tf.cast(tf.reshape(noise, tf.shape(inputs)), inputs.dtype)
