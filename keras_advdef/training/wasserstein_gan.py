"""WassersteinGAN: trains a generator against a critic with a gradient penalty."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.core.errors import checked_integer, checked_number, invalid
from keras_advdef.core.export_model import export_model
from keras_advdef.core.generators import check_critic, latent_shapes
from keras_advdef.core.keras_private import flat_layers
from keras_advdef.core.keras_training import (
    prepare_for_workers,
    scale_loss_for_distribution,
    worker_logs,
)
from keras_advdef.core.random_numbers import fold_in, make_key, normal, uniform
from keras_advdef.core.random_state import checked_seed
from keras_advdef.core.random_stream import (
    add_random_state,
    next_stream_key,
    upgrade_random_states,
)
from keras_advdef.core.value_range import ValueRange, checked_images
from keras_advdef.training._compiled_loss import check_distribution
from keras_advdef.training._finite_guard import FiniteGuard, FiniteStep

_OWNER = "WassersteinGAN"
_NOT_COMPILED = ("loss", "loss_weights", "metrics", "weighted_metrics")
_LOGS = ("critic_loss", "generator_loss", "gradient_penalty", "distance")
# The square root has no derivative at 0; at a smaller square the norm counts as 0.
_TINY = 1e-24


@keras.saving.register_keras_serializable(package="keras_advdef")
class WassersteinGAN(keras.Model):
    """Trains a generator to make images like those of a data set (WGAN-GP).

    The critic D learns to score real images higher than generated ones, `G(z)` with z
    from N(0, 1), with gradients of norm 1 between them. It minimises
    `mean D(G(z)) - mean D(x) + gradient_penalty * mean (norm(grad D) - 1)^2`. The
    generator then minimises `-mean D(G(z))`. `distance`, `mean D(x) - mean D(G(z))`,
    estimates the Wasserstein distance of the two distributions, and falls in training.

    A batch of `fit` makes one update of the generator. It holds the images of all
    critic updates: a batch of 250 gives 5 updates with 50 images each. A batch that
    does not divide is padded with its own first images. The generator's update draws as
    many latents as one update of the critic.

    To the outside the model is its generator: `call`, `predict` and `export` take
    latents and return images. Both nets are trained in place. Do not use batch
    normalisation in the critic, because the penalty is defined for single images.

    If images, a loss or a weight are not finite, training stops with an error and the
    model keeps the weights it had before that batch.

    Args:
        generator: A built Sequential or functional model from latents
            `(batch, latent_dim)` to images `(batch, rows, cols, channels)` in `[0, 1]`.
        critic: A built Sequential or functional model from images to scores
            `(batch, 1)`, without activation at its end.
        latent_dim: Number of latents per image, at least 1.
        gradient_penalty: Weight of the penalty, at least 0.
        critic_steps: Critic updates before each generator update, at least 1.
        seed: Integer in `[0, 2**31)` that starts the stream of latents, saved with the
            model; `None` for one that `keras.utils.set_random_seed` governs.
        **kwargs: `name` and the like; see `keras.Model`.

    Raises:
        ValueError: If an argument is outside its bounds, `latent_dim` not the
            generator's, or the critic does not take its images or end in one unit.

    Paper: Gulrajani, Ahmed, Arjovsky, Dumoulin, Courville: Improved Training of
    Wasserstein GANs, NeurIPS 2017.

    Example:

    >>> generator = keras.Sequential([
    ...     keras.Input((3,)), keras.layers.Dense(4, activation="sigmoid"),
    ...     keras.layers.Reshape((2, 2, 1))])
    >>> critic = keras.Sequential([
    ...     keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(1)])
    >>> gan = keras_advdef.training.WassersteinGAN(
    ...     generator, critic, latent_dim=3, critic_steps=2)
    >>> gan.compile()
    >>> sorted(gan.fit(np.zeros((4, 2, 2, 1)), verbose=0).history)
    ['critic_loss', 'distance', 'generator_loss', 'gradient_penalty']
    >>> gan.sample(5).shape
    (5, 2, 2, 1)
    """

    def __init__(
        self,
        generator: keras.Model,
        critic: keras.Model,
        *,
        latent_dim: int,
        gradient_penalty: float = 10.0,
        critic_steps: int = 5,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        checked_integer(_OWNER, "latent_dim", latent_dim, low=1)
        inputs, self.image_shape = latent_shapes(_OWNER, generator)
        if inputs != latent_dim:
            rule = f"{inputs}, the number of latents that the generator takes"
            raise invalid(_OWNER, "latent_dim", rule, latent_dim)
        check_critic(_OWNER, critic, self.image_shape)
        self.generator = generator
        self.critic = critic
        self.latent_dim = latent_dim
        self.gradient_penalty = checked_number(
            _OWNER, "gradient_penalty", gradient_penalty, low=0
        )
        self.critic_steps = checked_integer(_OWNER, "critic_steps", critic_steps, low=1)
        self.seed = checked_seed(_OWNER, seed)
        self.random_state = add_random_state(self, seed)
        self._means = {name: keras.metrics.Mean(name) for name in _LOGS}
        self.built = True
        self._guard = FiniteGuard(_OWNER)
        prepare_for_workers(self)

    def compile(
        self,
        optimizer: keras.optimizers.Optimizer | str | None = None,
        critic_optimizer: keras.optimizers.Optimizer | str | None = None,
        **kwargs: Any,
    ) -> None:
        """Sets the optimizers; see `keras.Model.compile` for the rest.

        Args:
            optimizer: The generator's; `None` for `Adam(1e-4, beta_1=0.5, beta_2=0.9)`.
            critic_optimizer: The critic's; `None` for a copy of `optimizer` as it was
                configured. Learning rate callbacks move the generator's alone.
            **kwargs: `jit_compile` and the like, as in Keras.

        Raises:
            ValueError: If both optimizers are the same object, or a loss or metrics
                are given.
        """
        check_no_loss(_OWNER, kwargs)
        optimizers = checked_optimizers(_OWNER, optimizer, critic_optimizer)
        if kwargs.get("auto_scale_loss", True):
            nets = (self.generator, self.critic)
            optimizers = [with_loss_scale(each, nets) for each in optimizers]
        super().compile(optimizer=optimizers[0], **kwargs)
        self.critic_optimizer = optimizers[1]
        # Keras would build one optimizer for the weights of both nets.
        with self.distribute_strategy.scope():
            self.optimizer.build(self.generator.trainable_variables)
            self.critic_optimizer.build(self.critic.trainable_variables)

    def get_compile_config(self) -> dict[str, Any]:
        """Returns what `compile_from_config` takes, both optimizers in it."""
        config = super().get_compile_config()
        if config:
            critic_optimizer = keras.optimizers.serialize(self.critic_optimizer)
            config["critic_optimizer"] = critic_optimizer
        return config

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles the model as another one was.

        Args:
            config: What `get_compile_config` returned.
        """
        self.compile(**keras.saving.deserialize_keras_object(config))

    def fit(
        self, x: Any = None, y: Any = None, **kwargs: Any
    ) -> keras.callbacks.History:
        """Trains both nets; see `keras.Model.fit`.

        Args:
            x: Images in `[0, 1]`, or a data set of images, whose labels are ignored.
            y: Ignored.
            **kwargs: As in Keras; `batch_size` is that of all critic updates together.

        Returns:
            A `keras.callbacks.History`.

        Raises:
            ValueError: If the images are not as the generator's or outside `[0, 1]`, an
                option fails under the distribution strategy, or a batch, a loss or the
                weights after it are not finite.
        """
        check_images(_OWNER, x, self.image_shape)
        check_distribution(self)
        return super().fit(**self._guard.among_callbacks(x, y, **kwargs))

    def make_train_function(self, force: bool = False) -> None:
        """Makes the function of a training step, which raises if it diverges.

        Args:
            force: As in Keras.
        """
        self.train_function: Callable[[Iterator[Any]], Any]
        super().make_train_function(force)
        self.train_function = self._guard.raising(self.train_function)

    def call(self, latents: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Returns the generator's images."""
        return self.generator(latents, training=training)

    def sample(self, count: int, *, seed: int | None = None) -> np.ndarray:
        """Returns images of the generator, without advancing the stream of training.

        Args:
            count: Number of images, at least 1.
            seed: Integer in `[0, 2**31)` that fixes them; `None` for fresh ones.

        Returns:
            Float32 array of shape `(count, rows, cols, channels)`.
        """
        checked_integer(_OWNER, "count", count, low=1)
        latents = normal(make_key(checked_seed(_OWNER, seed)), [count, self.latent_dim])
        return self.predict(latents, verbose=0).astype("float32")

    def train_step(self, data: Any) -> dict[str, Any]:
        """Returns the logs of `critic_steps` updates and one of the generator."""
        images = images_in(data, self.image_shape)
        state = (self, self.optimizer, self.critic_optimizer)
        variables = [v for each in state for v in each.variables]
        step = self._guard.begin({"images": images}, variables)
        parts, count = split_batch(images, self.critic_steps), self.critic_steps
        key = next_stream_key(self.random_state)
        for index in range(count):
            self._update_critic(parts[index], fold_in(key, index), step)
        self._update_generator(tf.shape(parts)[1], fold_in(key, count), step)
        step.end()
        return self._logs()

    def test_step(self, data: Any) -> dict[str, Any]:
        """Returns the same logs, always from the same latents."""
        images = images_in(data, self.image_shape)
        losses = self._critic_losses(images, make_key(0), training=False)
        losses["generator_loss"] = -losses.pop("generated")
        self._record(tf.shape(images)[0], losses)
        return self._logs()

    def load_own_variables(self, store: Any) -> None:
        """Loads the random state."""
        super().load_own_variables(upgrade_random_states(store))

    def _critic_losses(
        self, images: tf.Tensor, key: tf.Tensor, *, training: bool
    ) -> dict[str, tf.Tensor]:
        nets, weight = (self.generator, self.critic), self.gradient_penalty
        return critic_losses(*nets, images, key, weight=weight, training=training)

    def _update_critic(
        self, images: tf.Tensor, key: tf.Tensor, step: FiniteStep
    ) -> None:
        with tf.GradientTape() as tape:
            losses = self._critic_losses(images, key, training=True)
        loss = losses["critic_loss"]
        update_net(self.critic_optimizer, tape, loss, net=self.critic, step=step)
        del losses["generated"]
        self._record(tf.shape(images)[0], losses)

    def _update_generator(
        self, count: tf.Tensor, key: tf.Tensor, step: FiniteStep
    ) -> None:
        with tf.GradientTape() as tape:
            generated = generated_images(self.generator, count, key, training=True)
            loss = -tf.reduce_mean(scores(self.critic, generated, training=True))
        update_net(self.optimizer, tape, loss, net=self.generator, step=step)
        self._record(count, {"generator_loss": loss})

    def _record(self, count: tf.Tensor, values: dict[str, tf.Tensor]) -> None:
        for name, value in values.items():
            self._means[name].update_state(value, sample_weight=count)

    def _logs(self) -> dict[str, tf.Tensor]:
        return worker_logs(self, {k: mean.result() for k, mean in self._means.items()})

    def export(self, filepath: str | Path, *args: Any, **kwargs: Any) -> None:
        """Exports the generator.

        Args:
            filepath: Folder or file to write.
            *args: As in Keras.
            **kwargs: As in Keras.
        """
        export_model(self.generator, filepath, *args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        return {
            "generator": serialize(self.generator),
            "critic": serialize(self.critic),
            "latent_dim": self.latent_dim,
            "gradient_penalty": self.gradient_penalty,
            "critic_steps": self.critic_steps,
            "seed": self.seed,
            "name": self.name,
            "dtype": serialize(self.dtype_policy),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], **kwargs: Any) -> Self:
        """Returns a model made from `get_config`.

        Args:
            config: The dictionary.
            **kwargs: `custom_objects`, as in Keras.
        """
        make = keras.saving.deserialize_keras_object
        return cls(**{name: make(value, **kwargs) for name, value in config.items()})


def gradient_penalty(
    critic: Callable[[tf.Tensor], tf.Tensor], points: tf.Tensor
) -> tf.Tensor:
    """Returns `(norm(gradient) - 1) ** 2` for the critic's gradient at each point.

    The l2 norm is over all axes except the first. The result is differentiable in the
    critic's weights.

    Args:
        critic: Function from points to one score each, `(batch, 1)` or `(batch,)`.
        points: Float32 tensor of shape `(batch, ...)`.

    Returns:
        Float32 tensor of shape `(batch,)`.

    Example:

    >>> points = tf.zeros((4, 2, 2, 1))
    >>> slope_of_four = lambda points: 2.0 * tf.reduce_sum(points, [1, 2, 3])
    >>> keras_advdef.training.wasserstein_gan.gradient_penalty(slope_of_four, points)
    <tf.Tensor: shape=(4,), dtype=float32, numpy=array([9., 9., 9., 9.],
    dtype=float32)>
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(points)
        # A score depends on its own point alone, so one sum gives all gradients.
        total = tf.reduce_sum(tf.cast(critic(points), tf.float32))
    gradients = tape.gradient(total, points)
    axes = list(range(1, points.shape.rank))
    squares = tf.reduce_sum(tf.square(gradients), axis=axes)
    return tf.square(tf.sqrt(tf.maximum(squares, _TINY)) - 1.0)


def generated_images(
    generator: keras.Model, count: tf.Tensor, key: tf.Tensor, *, training: bool
) -> tf.Tensor:
    """Returns float32 images for latents drawn from N(0, 1).

    Args:
        generator: Model from latents to images.
        count: Number of images.
        key: Fixes the latents.
        training: Whether the generator is called as in training.
    """
    latents = normal(key, [count, generator.input_shape[-1]])
    return tf.cast(generator(latents, training=training), tf.float32)


def scores(critic: keras.Model, images: tf.Tensor, *, training: bool) -> tf.Tensor:
    """Returns a critic's float32 scores, `(batch,)`.

    Args:
        critic: Model from images to `(batch, 1)`.
        images: The images.
        training: Whether the critic is called as in training.
    """
    return tf.cast(tf.reshape(critic(images, training=training), [-1]), tf.float32)


def critic_losses(
    generator: keras.Model,
    critic: keras.Model,
    images: tf.Tensor,
    key: tf.Tensor,
    *,
    weight: float,
    training: bool,
) -> dict[str, tf.Tensor]:
    """Returns means over real images and as many generated ones, by name.

    Args:
        generator: Model from latents to images; it gets no gradient.
        critic: Model from images to scores.
        images: Real images, float32.
        key: Fixes the latents, and the points between real and generated images where
            the gradient is taken.
        weight: Weight of the gradient penalty.
        training: Whether the nets are called as in training.

    Returns:
        "critic_loss"; "gradient_penalty", without its weight; "distance", of the mean
        scores of real and generated images; "generated", the latter alone.
    """
    count = tf.shape(images)[0]
    generated = generated_images(generator, count, fold_in(key, 0), training=training)
    generated = tf.stop_gradient(generated)
    shares = uniform(fold_in(key, 1), [count, 1, 1, 1])
    between = generated + shares * (images - generated)
    penalty = tf.reduce_mean(
        gradient_penalty(lambda each: scores(critic, each, training=training), between)
    )
    found = scores(critic, tf.concat([images, generated], axis=0), training=training)
    of_generated = tf.reduce_mean(found[count:])
    distance = tf.reduce_mean(found[:count]) - of_generated
    return {
        "critic_loss": weight * penalty - distance,
        "gradient_penalty": penalty,
        "distance": distance,
        "generated": of_generated,
    }


def with_loss_scale(
    optimizer: keras.optimizers.Optimizer, nets: Sequence[keras.Model]
) -> keras.optimizers.Optimizer:
    """Returns an optimizer that scales the loss if a net computes in float16.

    Args:
        optimizer: The optimizer.
        nets: All nets that the loss passes through.
    """
    layers = [layer for net in nets for layer in flat_layers(net)]
    is_half = any(layer.compute_dtype == "float16" for layer in layers)
    kind = keras.optimizers.LossScaleOptimizer
    return kind(optimizer) if is_half and not isinstance(optimizer, kind) else optimizer


def update_net(
    optimizer: keras.optimizers.Optimizer,
    tape: tf.GradientTape,
    loss: tf.Tensor,
    *,
    net: keras.Model,
    step: FiniteStep,
) -> None:
    """Moves the trainable weights of one net, and no other, along a gradient.

    Losses of the net's own layers are added; of several replicas each gives its share.

    Args:
        optimizer: A built optimizer of the net's trainable weights.
        tape: The tape that recorded the loss.
        loss: Mean over the images of this replica.
        net: The net.
        step: The running step of training, which looks at loss and gradients.
    """
    with tape:
        own = [tf.cast(each, loss.dtype) for each in net.losses]
        total = scale_loss_for_distribution(tf.add_n([loss, *own]))
        scaled = optimizer.scale_loss(total)
    variables = net.trainable_variables
    gradients = tape.gradient(scaled, variables)
    step.check_update(total, gradients, optimizer)
    optimizer.apply_gradients(zip(gradients, variables, strict=True))


def check_images(owner: str, x: Any, image_shape: tuple[int, int, int]) -> None:
    """Raises if the data of `fit` are known not to be images of a shape.

    Args:
        owner: Name of the class that trains.
        x: Array, `tf.data.Dataset` or other data, which are not checked.
        image_shape: Rows, columns and channels.

    Raises:
        ValueError: If the shape differs, or pixels of an array lie outside `[0, 1]`.
    """
    if isinstance(x, tf.data.Dataset):
        x = keras.utils.unpack_x_y_sample_weight(x.element_spec)[0]
        fits = x.shape[1:].is_compatible_with(image_shape)
    elif isinstance(x, (np.ndarray, tf.Tensor)):
        fits = checked_images(owner, x, ValueRange()).shape[1:] == image_shape
    else:
        return
    if not fits:
        sizes = ", ".join(map(str, image_shape))
        rule = f"as the generator's, (batch, {sizes})"
        raise invalid(owner, "images", rule, x)


def images_in(data: Any, image_shape: tuple[int, int, int]) -> tf.Tensor:
    """Returns the float32 images of a batch, without labels.

    Args:
        data: What Keras hands to a training step.
        image_shape: Rows, columns and channels, which a data set may not know.
    """
    images = tf.cast(keras.utils.unpack_x_y_sample_weight(data)[0], tf.float32)
    return tf.ensure_shape(images, (None, *image_shape))


def split_batch(images: tf.Tensor, count: int) -> tf.Tensor:
    """Returns a batch in parts of equal size, `(count, size, ...)`.

    Args:
        images: Tensor `(batch, ...)`; its first images are repeated at the end if the
            batch does not divide.
        count: Number of parts.
    """
    total = tf.shape(images)[0]
    size = (total + count - 1) // count
    places = tf.range(count * size) % total
    return tf.reshape(tf.gather(images, places), [count, size, *images.shape[1:]])


def check_no_loss(owner: str, arguments: Mapping[str, Any]) -> None:
    """Raises if `compile` was given a loss or metrics.

    Args:
        owner: Name of the class that is compiled.
        arguments: Those of `compile` by name.

    Raises:
        ValueError: If one of them is a loss or metrics.
    """
    for name in _NOT_COMPILED:
        if arguments.get(name) is not None:
            rule = "left out, since the critic is the loss"
            raise invalid(owner, name, rule, arguments[name])


def checked_optimizers(
    owner: str,
    optimizer: keras.optimizers.Optimizer | str | None,
    critic_optimizer: keras.optimizers.Optimizer | str | None,
) -> list[keras.optimizers.Optimizer]:
    """Returns the optimizers of a generator and of its critic.

    Args:
        owner: Name of the class that is compiled.
        optimizer: What `keras.optimizers.get` takes; `None` for the paper's Adam.
        critic_optimizer: The same; `None` for a copy of `optimizer` as it was
            configured.

    Raises:
        ValueError: If both are the same object.
    """
    if optimizer is None:
        optimizer = keras.optimizers.Adam(1e-4, beta_1=0.5, beta_2=0.9)
    optimizer = keras.optimizers.get(optimizer)
    if critic_optimizer is None:
        critic_optimizer = keras.optimizers.serialize(optimizer)
    critic_optimizer = keras.optimizers.get(critic_optimizer)
    if critic_optimizer is optimizer:
        rule = "another object than `optimizer`"
        raise invalid(owner, "critic_optimizer", rule, critic_optimizer)
    return [optimizer, critic_optimizer]
