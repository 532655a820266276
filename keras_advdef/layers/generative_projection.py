"""GenerativeProjection: replaces images with the nearest ones of a generator."""

from typing import Any

import keras
import tensorflow as tf

from keras_advdef.core.cards import Break, DefenceCard, defence
from keras_advdef.core.errors import (
    checked_choice,
    checked_integer,
    checked_number,
    invalid,
)
from keras_advdef.core.generators import Projections, latent_search, latent_shapes
from keras_advdef.core.gradients import straight_through
from keras_advdef.core.keras_private import preserve_losses
from keras_advdef.layers.input_transform import InputTransform

DEFENSE_GAN = (
    "Samangouei, Kabkab, Chellappa: Defense-GAN: Protecting Classifiers Against "
    "Adversarial Attacks Using Generative Models, ICLR 2018"
)
DEFENSE_GAN_CLAIM = (
    "98.8 % accuracy on MNIST under FGSM at epsilon 0.3, where the undefended "
    "classifier has 21.7 %."
)
DEFENSE_GAN_BREAKS = (
    Break(
        attack="BPDA",
        result="55 % accuracy on MNIST at a mean l2 distance of 0.005",
        source="Athalye, Carlini, Wagner, ICML 2018",
    ),
    Break(
        attack="search of the latent space",
        result="finds misclassified images among the generator's own, which even a "
        "perfect projection leaves unchanged",
        source="Athalye, Carlini, Wagner, ICML 2018",
    ),
)
DEFENSE_GAN_COST = "steps * restarts forward and backward passes of the generator"

_GRADIENTS = ("identity", "unrolled")


@defence(
    DefenceCard(
        summary="Replaces images with the nearest ones that a generator can make.",
        category="input transformation",
        paper=DEFENSE_GAN,
        claim=DEFENSE_GAN_CLAIM,
        standing="broken",
        breaks=DEFENSE_GAN_BREAKS,
        eot_samples=20,
        gradient="straight-through",
        attacks=("BPDA", "LatentSpaceAttack"),
        training_cost="training the generator once, then as inference",
        inference_cost=DEFENSE_GAN_COST,
    )
)
@keras.saving.register_keras_serializable(package="keras_advdef")
class GenerativeProjection(InputTransform):
    """Replaces each image x with `G(z)`, for the best latent z that a search finds.

    The search minimises `||G(z) - x||^2` over z by gradient descent with momentum on
    the mean squared error. It runs from several random starts, and each image keeps its
    own best one; see `core.generators`. The starts are normal with variance
    `1 / latent_dim`, as in the authors' code, and are drawn at every call.

    The backward pass uses the identity (BPDA). With `gradient="unrolled"` it runs
    through every step of the search, and keeps all of them in memory.

    The layer freezes the generator, so train it first: no `fit` changes it any more. It
    is saved and exported with the layer. A prediction takes `steps * restarts` forward
    and backward passes of the generator for each image. Call the layer in a graph, as
    `predict` does.

    Args:
        generator: Sequential or functional model that maps latents
            `(batch, latent_dim)` to images in `value_range`, trained on images like
            those to defend.
        steps: Integer of at least 1. Steps from each start; L in the paper.
        restarts: Integer of at least 1. Random starts per image; R in the paper.
        learning_rate: Number above 0. Factor on the gradient of the mean squared error
            of pixels in `[0, 1]`.
        momentum: Number in `[0, 1)`.
        gradient: "identity" or "unrolled".
        **kwargs: `value_range`, `active`, `seed`, `name`, `dtype`; see
            `InputTransform`.

    Input shape:
        `(batch, rows, cols, channels)`, the shape of the generator's images.

    Output shape:
        Same as the input.

    Raises:
        ValueError: If an argument is out of bounds, if the generator does not map
            vectors to images, or if the images differ in shape from the generator's.

    Example:

    >>> generator = keras.Sequential([
    ...     keras.Input((2,)), keras.layers.Dense(16, activation="sigmoid"),
    ...     keras.layers.Reshape((4, 4, 1))])
    >>> layer = keras_advdef.layers.GenerativeProjection(
    ...     generator, steps=20, restarts=2, seed=0)
    >>> made = generator(np.array([[0.3, -0.2]]))
    >>> bool(np.abs(layer(made) - made).max() < 0.05)
    True
    """

    is_spatial = False

    def __init__(
        self,
        generator: keras.Model,
        *,
        steps: int = 200,
        restarts: int = 10,
        learning_rate: float = 10.0,
        momentum: float = 0.7,
        gradient: str = "identity",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        owner = "GenerativeProjection"
        self.latent_dim, self.image_shape = latent_shapes(owner, generator)
        self.generator = generator
        self.generator.trainable = False
        self.steps = checked_integer(owner, "steps", steps, low=1)
        self.restarts = checked_integer(owner, "restarts", restarts, low=1)
        self.learning_rate = checked_number(
            owner, "learning_rate", learning_rate, low=0.0, low_open=True
        )
        self.momentum = checked_number(owner, "momentum", momentum, low=0.0)
        if self.momentum >= 1.0:
            rule = "a number of at least 0 and below 1"
            raise invalid(owner, "momentum", rule, momentum)
        self.gradient = checked_choice(owner, "gradient", gradient, _GRADIENTS)

    @property
    def trainable(self) -> bool:
        """Always False, also inside a trainable model."""
        return False

    @trainable.setter
    def trainable(self, value: bool) -> None:
        del value

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Checks that the images have the shape of the generator's."""
        if tuple(input_shape[1:]) != self.image_shape:
            rule = f"of the generator's shape {(None, *self.image_shape)}"
            advice = "Train a generator on images of this size."
            shape = tuple(input_shape)
            raise invalid("GenerativeProjection", "images", rule, shape, advice=advice)
        super().build(input_shape)

    def generate(self, latents: tf.Tensor) -> tf.Tensor:
        """Returns the generator's images, float32, mapped to `[0, 1]`.

        Args:
            latents: Float32 tensor of shape `(batch, latent_dim)`.
        """
        made = self.generator(latents, training=False)
        return self.value_range.to_unit(tf.cast(made, tf.float32))

    def search(
        self,
        images: tf.Tensor,
        key: tf.Tensor,
        *,
        steps: int | None = None,
        restarts: int | None = None,
    ) -> Projections:
        """Returns the result of the search, before it is clipped to `[0, 1]`.

        Args:
            images: Float32 tensor `(batch, rows, cols, channels)` in `[0, 1]`.
            key: Int64 tensor of shape `(2,)` that fixes the starts.
            steps: Overrides the layer's steps.
            restarts: Overrides the layer's restarts.
        """
        # Losses that the generator's layers add inside the loop cannot leave it.
        with preserve_losses(self.generator):
            return latent_search(
                self.generate,
                images,
                key,
                latent_dim=self.latent_dim,
                steps=steps or self.steps,
                restarts=restarts or self.restarts,
                learning_rate=self.learning_rate,
                momentum=self.momentum,
            )

    def transform(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the nearest images of the generator, float32 in `[0, 1]`."""
        is_identity = self.gradient == "identity"
        wanted = tf.stop_gradient(images) if is_identity else images
        found = self.search(wanted, self.next_key()).images
        found = tf.clip_by_value(found, 0.0, 1.0)
        return straight_through(images, found) if is_identity else found

    def get_config(self) -> dict[str, Any]:
        names = ("steps", "restarts", "learning_rate", "momentum", "gradient")
        return {
            **super().get_config(),
            "generator": keras.saving.serialize_keras_object(self.generator),
            **{name: getattr(self, name) for name in names},
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "GenerativeProjection":
        """Returns a layer made from `get_config`."""
        restored = keras.saving.deserialize_keras_object(config["generator"])
        return cls(**{**config, "generator": restored})
