"""VariationalLayer: base of layers whose weights are normally distributed."""

import math
from collections.abc import Mapping, MutableMapping
from typing import Any

import keras
import tensorflow as tf

from keras_advdef.core.errors import (
    checked_choice,
    checked_instance,
    checked_number,
    invalid,
)
from keras_advdef.core.gradients import are_defences_bypassed
from keras_advdef.core.random_state import RandomLayer
from keras_advdef.core.random_stream import upgrade_random_states
from keras_advdef.layers._distributions import distributions
from keras_advdef.layers._weight_estimators import (
    ESTIMATORS,
    LinearMap,
    NormalWeights,
    posterior_mean,
)

# Value of the saved variable while the weight of the KL divergence is not set.
_UNSET = -1.0
# Smaller standard deviations vanish beside any mean, and their logarithm overflows.
_SMALLEST_STDDEV = 1e-12


class VariationalLayer(RandomLayer):
    """Base of Keras layers that draw their weights from a normal posterior.

    Each weight has a mean, stored in the variables of the Keras layer, and a standard
    deviation `softplus(rho)`. Each call draws fresh weights, whatever `training` is.
    `losses` has the Kullback-Leibler divergence from the prior `N(0, prior_stddev**2)`,
    in nats and times `kl_weight`: once per layer, however often it is called, and not
    at all while the layer is frozen with `trainable = False`.

    A subclass names its Keras layer as the second base and writes `apply_kernel`.
    Regularizers and constraints act on the means. The optimizer's weight decay also
    pulls `rho` towards 0, which is a standard deviation of 0.69; exclude it with
    `optimizer.exclude_from_weight_decay(var_names=["rho"])`.

    Args:
        estimator: "reparameterization" draws the weights once per call, shared by the
            batch. "flipout" (Wen et al. 2018) flips the signs of the draw per example,
            at the cost of a second product with a kernel. "local_reparameterization"
            (Kingma et al. 2015) draws each output independently from its own mean and
            variance, which for a convolution matches no single draw of the weights.
        posterior_initializer: Number of at least 1e-12, the initial standard deviation
            of every weight; or a Keras initializer for `rho`.
        prior_stddev: Number of at least 1e-12. Standard deviation of the prior.
        kl_weight: Number of at least 0 that multiplies the divergence: 1 / number of
            training images, since the compiled loss is a mean over images, or less.
            `None` to set it later with `set_kl_weight`; training raises until then.
            It can be changed at any time and is saved with the weights.
        variational_bias: Whether the bias is random, too.
        deterministic: Whether to use the means as weights. The variables are the same,
            so weights can be exchanged with a random layer.
        **kwargs: `seed`, `name`, `dtype`, see `RandomLayer`; and the arguments of the
            Keras layer.

    Attributes:
        kl_scale: Variable in `[0, 1]` that multiplies `kl_weight`, for `KLAnnealing`.
            It is 1 in a model loaded from a file.

    Raises:
        ValueError: If an argument is out of bounds, or on the first call with
            `training=True` if `kl_weight` is not set.
        TypeError: If `variational_bias` or `deterministic` is not a `bool`.

    Example:

    >>> layer = keras_advdef.layers.VariationalDense(3, prior_stddev=0.1)
    >>> isinstance(layer, keras_advdef.layers.VariationalLayer)
    True
    """

    def __init__(
        self,
        *,
        estimator: str = "reparameterization",
        posterior_initializer: float | str | dict[str, Any] | keras.Initializer = 0.05,
        prior_stddev: float = 1.0,
        kl_weight: float | None = None,
        variational_bias: bool = False,
        deterministic: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        owner = type(self).__name__
        self.estimator = checked_choice(owner, "estimator", estimator, ESTIMATORS)
        self.posterior_initializer = _checked_initializer(owner, posterior_initializer)
        self.prior_stddev = checked_number(
            owner, "prior_stddev", prior_stddev, low=_SMALLEST_STDDEV
        )
        name = "variational_bias"
        self.variational_bias = checked_instance(owner, name, variational_bias, bool)
        self._deterministic = checked_instance(
            owner, "deterministic", deterministic, bool
        )
        self.draws = not deterministic
        self._kl_weight = self._scalar("kl_weight", _UNSET)
        self.kl_scale = self._scalar("kl_scale", 1.0)
        if kl_weight is not None:
            self.kl_weight = kl_weight

    def _scalar(self, name: str, value: float) -> keras.Variable:
        return self.add_weight(
            name=name,
            shape=(),
            initializer=keras.initializers.Constant(value),
            dtype="float32",
            trainable=False,
        )

    @property
    def deterministic(self) -> bool:
        """Whether the means are used as weights; read-only, as graphs depend on it."""
        return self._deterministic

    @property
    def kl_weight(self) -> float | None:
        """The weight of the divergence, or `None` if it is not set."""
        with tf.init_scope():
            value = float(self._kl_weight.numpy())
        return None if value == _UNSET else value

    @kl_weight.setter
    def kl_weight(self, value: float) -> None:
        owner = type(self).__name__
        self._kl_weight.assign(checked_number(owner, "kl_weight", value, low=0.0))

    def add_weight(self, *args: Any, **kwargs: Any) -> keras.Variable:
        """Adds a weight that keeps its own dtype under mixed precision."""
        return super().add_weight(*args, **{**kwargs, "autocast": False})

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Adds the means, as the Keras layer does, and the `rho` of each."""
        super().build(input_shape)
        # Unlike `add_loss`, a regularizer counts once per step, however often the layer
        # is called, even in a loop. Attacks do not evaluate it at all.
        self.kernel_rho = self._rho("kernel", regularizer=self._weighted_divergence)
        self.bias_rho = None
        if self.bias is not None and self.variational_bias:
            self.bias_rho = self._rho("bias")

    def _rho(self, name: str, **kwargs: Any) -> keras.Variable:
        start = self.posterior_initializer
        if isinstance(start, float):
            # The inverse of softplus, stable for large numbers.
            rho = start + math.log(-math.expm1(-start))
            start = keras.initializers.Constant(rho)
        return self.add_weight(
            name=f"{name}_rho",
            shape=getattr(self, name).shape,
            initializer=start,
            **kwargs,
        )

    def enable_lora(self, *args: Any, **kwargs: Any) -> None:
        """Raises: the sum of two kernels has no normal posterior here."""
        raise NotImplementedError(f"`{type(self).__name__}` does not support LoRA.")

    def apply_kernel(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """Returns the product of inputs and kernel, before bias and activation."""
        raise NotImplementedError(f"`{type(self).__name__}` must write `apply_kernel`.")

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Returns the outputs for a draw of the weights.

        Args:
            inputs: As for the Keras layer.
            training: If true, `kl_weight` must be set.

        Returns:
            As the Keras layer.
        """
        if training and self.kl_weight is None:
            advice = "Set kl_weight = 1 / number of training images, or call "
            advice += "`keras_advdef.layers.set_kl_weight(model, images)`."
            owner, rule = type(self).__name__, "set before training"
            raise invalid(owner, "kl_weight", rule, None, advice=advice)
        is_last = getattr(self, "data_format", "channels_last") == "channels_last"
        linear = LinearMap(self.apply_kernel, -1 if is_last else 1)
        inputs = tf.cast(inputs, self.compute_dtype)
        kernel, bias = self._kernel_weights(), self._bias_weights()
        if self._deterministic or are_defences_bypassed():
            outputs = posterior_mean(linear, inputs, kernel=kernel, bias=bias)
        else:
            estimate = ESTIMATORS[self.estimator]
            key = self.next_key()
            outputs = estimate(linear, inputs, kernel=kernel, bias=bias, key=key)
        return self.activation(outputs)

    def _kernel_weights(self) -> NormalWeights:
        mean = _at_least_float32(self.kernel)
        return NormalWeights(mean, tf.math.softplus(_at_least_float32(self.kernel_rho)))

    def _bias_weights(self) -> NormalWeights | None:
        if self.bias is None:
            return None
        mean = _at_least_float32(self.bias)
        if self.bias_rho is None:
            return NormalWeights(mean, None)
        return NormalWeights(mean, tf.math.softplus(_at_least_float32(self.bias_rho)))

    def posteriors(self) -> list[Any]:
        """Returns the posteriors of the kernel and, if random, of the bias.

        Returns:
            A list of `tfp.distributions.Normal`.
        """
        weights = [self._kernel_weights(), self._bias_weights()]
        normal = distributions().Normal
        return [
            normal(each.mean, each.stddev)
            for each in weights
            if each is not None and each.stddev is not None
        ]

    def kl_divergence(self) -> tf.Tensor:
        """Returns the unweighted divergence of posterior from prior, in nats."""
        module = distributions()
        posteriors = self.posteriors()
        dtype = posteriors[0].dtype
        prior = module.Normal(tf.zeros([], dtype), tf.cast(self.prior_stddev, dtype))
        return tf.add_n(
            [tf.reduce_sum(module.kl_divergence(each, prior)) for each in posteriors]
        )

    def _weighted_divergence(self, rho: tf.Tensor) -> tf.Tensor:
        del rho  # The divergence needs the mean as well.
        divergence = self.kl_divergence()
        weight = tf.maximum(tf.convert_to_tensor(self._kl_weight), 0.0)
        factor = weight * tf.convert_to_tensor(self.kl_scale)
        return tf.cast(factor, divergence.dtype) * divergence

    def save_own_variables(self, store: MutableMapping[str, Any]) -> None:
        """Saves all variables; Keras layers save kernel and bias by name."""
        keras.layers.Layer.save_own_variables(self, store)

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        """Loads all variables; annealing starts over with the callback."""
        keras.layers.Layer.load_own_variables(self, upgrade_random_states(store))
        self.kl_scale.assign(1.0)

    def get_config(self) -> dict[str, Any]:
        start = self.posterior_initializer
        if not isinstance(start, float):
            start = keras.initializers.serialize(start)
        return {
            **super().get_config(),
            "estimator": self.estimator,
            "posterior_initializer": start,
            "prior_stddev": self.prior_stddev,
            "kl_weight": self.kl_weight,
            "variational_bias": self.variational_bias,
            "deterministic": self.deterministic,
        }


def _checked_initializer(
    owner: str, value: float | str | dict[str, Any] | keras.Initializer
) -> float | keras.Initializer:
    """Returns a standard deviation as `float`, or an initializer for `rho`."""
    if isinstance(value, (str, dict, keras.initializers.Initializer)):
        return keras.initializers.get(value)
    return checked_number(owner, "posterior_initializer", value, low=_SMALLEST_STDDEV)


def _at_least_float32(variable: keras.Variable) -> tf.Tensor:
    value = tf.convert_to_tensor(variable)
    return tf.cast(value, keras.backend.result_type(value.dtype.name, "float32"))
