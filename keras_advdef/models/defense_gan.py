"""DefenseGAN: classifies the nearest image of a generator, and flags distant ones."""

from typing import Any

import keras
import tensorflow as tf

from keras_advdef.core.cards import DefenceCard, defence
from keras_advdef.core.errors import invalid
from keras_advdef.core.generators import mean_squares
from keras_advdef.core.keras_private import has_graph
from keras_advdef.core.logits import classifier_logits
from keras_advdef.core.model_inputs import add_channels
from keras_advdef.layers.generative_projection import (
    DEFENSE_GAN,
    DEFENSE_GAN_BREAKS,
    DEFENSE_GAN_CLAIM,
    DEFENSE_GAN_COST,
    GenerativeProjection,
)
from keras_advdef.models._detector import Detector

# Arguments of the search.
_SEARCH = (
    "generator",
    "steps",
    "restarts",
    "learning_rate",
    "momentum",
    "gradient",
    "value_range",
    "seed",
)


@defence(
    DefenceCard(
        summary="Classifies the nearest image that a generator can make, and flags "
        "images far from all of those.",
        category="input transformation",
        paper=DEFENSE_GAN,
        claim=DEFENSE_GAN_CLAIM,
        standing="broken",
        breaks=DEFENSE_GAN_BREAKS,
        eot_samples=20,
        gradient="straight-through",
        attacks=("BPDA", "LatentSpaceAttack"),
        training_cost="training the generator once",
        inference_cost=DEFENSE_GAN_COST,
    )
)
@keras.saving.register_keras_serializable(package="keras_advdef")
class DefenseGAN(Detector):
    """Classifies `G(z*)`, the generator's image that is nearest to the given one.

    `GenerativeProjection` searches z*. The score of an image is the distance that is
    left: the mean over the pixels of `(G(z*) - x)^2`, on the `[0, 1]` scale. An image
    is flagged if its score is above the threshold, and none is until `calibrate` has
    set one.

    Attacks and `evaluate_robustness` see `logits`: the classifier's on `G(z*)`, and one
    for "flagged", which is the largest exactly where the verdict is true. Their
    backward pass treats the projection as the identity (BPDA) and differentiates the
    score exactly: at a minimum, z* is a constant.

    The generator is frozen. The classifier may be trained further, on images or on the
    generator's versions of them.

    Args:
        generator: Sequential or functional model from latents `(batch, latent_dim)` to
            images in `value_range`, trained on images like those to be classified.
        classifier: A `keras.Model` that maps the generator's images to logits or to
            probabilities. One unit counts as two classes.
        steps: Integer of at least 1. Steps from each start, the paper's L.
        restarts: Integer of at least 1. Starts per image, the paper's R.
        learning_rate: Number above 0, in gradients of the mean squared error of pixels
            in `[0, 1]`.
        momentum: Number of at least 0 and below 1.
        gradient: "identity", or "unrolled" to differentiate through the search.
        value_range: Pair `(low, high)` in which the images lie.
        seed: Integer that starts the stream of random starts, or `None`.
        **kwargs: `name` and the like; see `keras.Model`.

    Call arguments:
        images: Tensor of shape `(batch, rows, cols, channels)` in `value_range`.
        training: Whether the classifier is called as in training.

    Returns:
        A dictionary: "probabilities" `(batch, classes)`, "score" `(batch,)` in
        `[0, 1]`, "verdict" `(batch,)`, true for flagged images.

    Raises:
        TypeError: If the classifier is not a `keras.Model`.
        ValueError: If an argument is outside its bounds, the generator does not map
            vectors to images, or the classifier takes other images.

    Example:

    >>> generator = keras.Sequential([
    ...     keras.Input((2,)), keras.layers.Dense(16, activation="sigmoid"),
    ...     keras.layers.Reshape((4, 4, 1))])
    >>> classifier = keras.Sequential([
    ...     keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    >>> model = keras_advdef.models.DefenseGAN(
    ...     generator, classifier, steps=10, restarts=2)
    >>> images = np.random.default_rng(0).uniform(0, 1, (20, 4, 4, 1))
    >>> threshold = model.calibrate(images)
    >>> model.predict(images, verbose=0)["probabilities"].shape
    (20, 3)
    """

    largest_score = 1.0
    # Scores of digits are about a hundredth.
    steepness = 1000.0

    def __init__(
        self,
        generator: keras.Model,
        classifier: keras.Model,
        *,
        steps: int = 200,
        restarts: int = 10,
        learning_rate: float = 10.0,
        momentum: float = 0.7,
        gradient: str = "identity",
        value_range: tuple[float, float] = (0.0, 1.0),
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(classifier, **kwargs)
        self.projection = GenerativeProjection(
            generator,
            steps=steps,
            restarts=restarts,
            learning_rate=learning_rate,
            momentum=momentum,
            gradient=gradient,
            value_range=value_range,
            seed=seed,
        )
        _check_fit(classifier, self.projection.image_shape)
        self.connect()

    @property
    def generator(self) -> keras.Model:
        """The generator, which is frozen."""
        return self.projection.generator

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Builds the classifier, and checks the shape of the images."""
        if not self.projection.built:
            self.projection.build(add_channels(keras.KerasTensor(input_shape)).shape)
        super().build(input_shape)

    def scored(self, images: tf.Tensor, training: bool) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the classifier's logits on `G(z*)`, and its distance."""
        images = add_channels(tf.convert_to_tensor(images))
        made = self.projection(images, training=training)
        logits = classifier_logits(self.classifier, made, training=training)
        fixed, given = (
            self.projection.value_range.to_unit(tf.cast(each, tf.float32))
            for each in (tf.stop_gradient(made), images)
        )
        return logits, mean_squares(given, fixed)

    def get_config(self) -> dict[str, Any]:
        search = self.projection.get_config()
        return {**super().get_config(), **{name: search[name] for name in _SEARCH}}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "DefenseGAN":
        """Returns a model made from `get_config`."""
        restored = keras.saving.deserialize_keras_object(config["generator"])
        return super().from_config({**config, "generator": restored})


def _check_fit(classifier: keras.Model, image_shape: tuple[int, ...]) -> None:
    """Raises if the classifier is known to take images of another shape."""
    if not has_graph(classifier):
        return
    wanted = tuple(add_channels(classifier.inputs[0]).shape[1:])
    sizes = zip(wanted, image_shape, strict=True) if len(wanted) == 3 else ()
    if len(wanted) != 3 or any(size not in (None, made) for size, made in sizes):
        rule = f"a model that returns the classifier's images, {(None, *wanted)}"
        raise invalid("DefenseGAN", "generator", rule, (None, *image_shape))
