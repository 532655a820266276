"""StochasticActivationPruning: prunes small activations more often than large ones."""

from typing import Any

import keras
import tensorflow as tf

from keras_advdef.core.cards import Break, DefenceCard, defence
from keras_advdef.core.errors import checked_choice, checked_number
from keras_advdef.core.gradients import are_defences_bypassed
from keras_advdef.core.random_state import RandomLayer
from keras_advdef.layers._bulk_random import bulk_uniform, unit_log1p
from keras_advdef.layers._compiled import compiled
from keras_advdef.layers._multinomial import drawn_outcomes

_SAMPLINGS = ("multinomial", "bernoulli")


@defence(
    DefenceCard(
        summary="Prunes activations at random, small ones more often.",
        category="randomization",
        paper="Dhillon, Azizzadenesheli, Lipton, Bernstein, Kossaifi, Khanna, "
        "Anandkumar: Stochastic Activation Pruning for Robust Adversarial Defense, "
        "ICLR 2018",
        claim="Without any training, a pretrained network gains accuracy under small "
        "FGSM perturbations and loses little on clean images.",
        standing="broken",
        breaks=(
            Break(
                attack="EOT",
                result="0 % accuracy on CIFAR-10 at 8/255; an erratum (Dhillon, "
                "Carlini 2020) says that the attacked layer was weaker than the "
                "published one",
                source="Athalye, Carlini, Wagner 2018",
            ),
            Break(
                attack="BPDA",
                result="breaks the published layer too, by skipping the pruning in the "
                "backward pass",
                source="Dhillon, Carlini 2020, arXiv 2010.00071",
            ),
        ),
        eot_samples=20,
        attacks=("PGD", "APGD", "BPDA"),
        training_cost="none; the layer is added to a pretrained model",
        inference_cost="one uniform draw per activation",
    )
)
@keras.saving.register_keras_serializable(package="keras_advdef")
class StochasticActivationPruning(RandomLayer):
    """Samples activations with replacement and sets the others to zero.

    Each example makes `r = fraction * n` draws from its own `n` activations, over all
    positions and channels, with probabilities `p = |a| / sum(|a|)`. An activation that
    is drawn at least once is divided by the probability of that, `1 - (1 - p)**r`, so
    that the expected output is the input. The layer is active whatever `training` is.
    In the backward pass the factors are constants, as in the authors' code. Put it
    after every ReLU of a pretrained model, as `surgery.insert_pruning` does.

    Args:
        fraction: Number above 0. Draws per activation: 1 keeps 63 % of equal
            activations, a large number keeps all.
        sampling: "multinomial" draws as published, jointly for all activations of an
            example. "bernoulli" keeps each one independently with the same probability
            and is several times faster.
        **kwargs: `seed`, `name`, `dtype`; see `RandomLayer`.

    Input shape:
        `(batch, ...)`, floats.

    Output shape:
        As the input.

    Raises:
        ValueError: If `fraction` is not above 0 or `sampling` is unknown.

    Example:

    >>> layer = keras_advdef.layers.StochasticActivationPruning(seed=0)
    >>> activations = np.array([[4.0, 0.0, 1.0, 1.0, 1.0, 1.0]], "float32")
    >>> [round(float(each), 2) for each in layer(activations)[0, :2]]
    [4.06, 0.0]
    """

    def __init__(
        self, *, fraction: float = 1.0, sampling: str = "multinomial", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        owner = "StochasticActivationPruning"
        self.fraction = checked_number(
            owner, "fraction", fraction, low=0.0, low_open=True
        )
        self.sampling = checked_choice(owner, "sampling", sampling, _SAMPLINGS)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns the inputs with some set to zero and the others scaled up.

        Args:
            inputs: Float tensor of shape `(batch, ...)`.

        Returns:
            Tensor of the same shape and dtype.
        """
        if are_defences_bypassed():
            return inputs
        inputs = tf.convert_to_tensor(inputs)
        prune = _multinomial if self.sampling == "multinomial" else _bernoulli
        return prune(self.next_key(), inputs, tf.constant(self.fraction))

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        """Returns the input shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "fraction": self.fraction,
            "sampling": self.sampling,
        }


def _sizes(inputs: tf.Tensor) -> tf.Tensor:
    """Returns the absolute values without gradient, one row per example."""
    flat = tf.reshape(tf.stop_gradient(inputs), [tf.shape(inputs)[0], -1])
    return tf.abs(tf.cast(flat, tf.float32))


def _draws(sizes: tf.Tensor, fraction: tf.Tensor) -> tf.Tensor:
    """Returns the number of draws per example, at least one."""
    count = tf.floor(fraction * tf.cast(tf.shape(sizes)[1], tf.float32))
    return tf.maximum(count, 1.0)


def _kept(sizes: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """Returns the probability that each activation is drawn at least once."""
    total = tf.reduce_sum(sizes, axis=1, keepdims=True)
    shares = tf.math.divide_no_nan(sizes, total)
    # Accurate for tiny shares; a single non-zero activation is always drawn.
    return -tf.math.expm1(draws * unit_log1p(-shares))


def _scaled(inputs: tf.Tensor, is_kept: tf.Tensor, kept: tf.Tensor) -> tf.Tensor:
    """Returns the kept inputs divided by their probability, and zero elsewhere."""
    factors = tf.where(is_kept, tf.math.divide_no_nan(1.0, kept), 0.0)
    # In half precision, the product would round the factor first.
    pruned = tf.cast(inputs, tf.float32) * tf.reshape(factors, tf.shape(inputs))
    return tf.cast(pruned, inputs.dtype)


@compiled
def _bernoulli(key: tf.Tensor, inputs: tf.Tensor, fraction: tf.Tensor) -> tf.Tensor:
    sizes = _sizes(inputs)
    kept = _kept(sizes, _draws(sizes, fraction))
    return _scaled(inputs, bulk_uniform(key, tf.shape(sizes)) < kept, kept)


def _multinomial(key: tf.Tensor, inputs: tf.Tensor, fraction: tf.Tensor) -> tf.Tensor:
    sizes = _sizes(inputs)
    draws = _draws(sizes, fraction)
    return _drawn(inputs, drawn_outcomes(key, sizes, draws), draws)


@compiled
def _drawn(inputs: tf.Tensor, is_kept: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    return _scaled(inputs, is_kept, _kept(_sizes(inputs), draws))
