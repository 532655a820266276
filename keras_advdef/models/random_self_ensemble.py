"""RandomSelfEnsemble: the mean prediction of one random classifier over its draws."""

from typing import Any

import keras
import tensorflow as tf

from keras_advdef.core.cards import Break, DefenceCard, defence
from keras_advdef.core.errors import checked_choice, checked_integer
from keras_advdef.core.gradients import are_defences_bypassed
from keras_advdef.core.keras_private import preserve_losses
from keras_advdef.core.logits import classifier_logits
from keras_advdef.core.loops import fixed_loop
from keras_advdef.core.random_numbers import fold_in
from keras_advdef.core.random_state import draw_scope, shared_pass_key
from keras_advdef.models._classifier_model import ClassifierModel

_COMBINATIONS = ("probabilities", "logits")


@defence(
    DefenceCard(
        summary="Averages the predictions of several passes of a random classifier.",
        category="randomization",
        paper="Liu, Cheng, Zhang, Hsieh: Towards Robust Neural Networks via Random "
        "Self-Ensemble, ECCV 2018",
        claim="With noise before every convolution and predictions averaged over ten "
        "passes, the model resists C&W on CIFAR-10; the undefended one does not.",
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
        training_cost="none beyond that of the classifier",
        inference_cost="one pass per sample",
    )
)
@keras.saving.register_keras_serializable(package="keras_advdef")
class RandomSelfEnsemble(ClassifierModel):
    """Averages the predictions of a classifier with random layers over several passes.

    The passes run one after the other in a loop of the same graph, so that a prediction
    takes the memory of one pass; its gradient, which attacks use, takes that of all.
    Every pass has fresh draws: noise, pruning, resizing, weights. The gradient of
    `logits` is that of the mean, which is expectation over transformation (EOT), so
    attacks on it need fewer EOT samples.

    Train the classifier or this model: with `training=True` it makes a single pass,
    whose loss is an upper bound of the ensemble's (Jensen).

    Args:
        classifier: A `keras.Model` that maps images to logits or to probabilities.
            One unit counts as two classes; see `surgery.insert_noise`.
        samples: Number of passes, at least 1.
        combine: "probabilities" for the mean of the softmax, as in the paper's code, or
            "logits" for the sum of the logits, as in the survey.
        **kwargs: `name` and the like; see `keras.Model`.

    Call arguments:
        images: Tensor of shape `(batch, rows, cols, channels)`.
        training: Whether the classifier is called as in training, once.

    Returns:
        Float32 probabilities of shape `(batch, classes)`.

    Raises:
        TypeError: If the classifier is not a `keras.Model`.
        ValueError: If `samples` is not an integer of at least 1 or `combine` unknown.

    Example:

    >>> classifier = keras.Sequential([
    ...     keras.Input((4, 4, 1)), keras_advdef.layers.RandomNoise(0.2),
    ...     keras.layers.Flatten(), keras.layers.Dense(3)])
    >>> model = keras_advdef.models.RandomSelfEnsemble(classifier, samples=10)
    >>> model.predict(np.zeros((2, 4, 4, 1)), verbose=0).shape
    (2, 3)
    """

    def __init__(
        self,
        classifier: keras.Model,
        *,
        samples: int = 10,
        combine: str = "probabilities",
        **kwargs: Any,
    ) -> None:
        super().__init__(classifier, **kwargs)
        owner = "RandomSelfEnsemble"
        self.samples = checked_integer(owner, "samples", samples, low=1)
        self.combine = checked_choice(owner, "combine", combine, _COMBINATIONS)
        self.averaged_draws = self.samples
        self.connect()

    def logits(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the logarithm of the mean probability, or the sum of the logits.

        Args:
            images: Tensor of shape `(batch, rows, cols, channels)`.
            training: Whether the classifier is called as in training, once.

        Returns:
            Float32 tensor of shape `(batch, classes)`.
        """
        is_sum = self.combine == "logits"
        # Without noise all passes are equal.
        if training or are_defences_bypassed():
            logits = classifier_logits(self.classifier, images, training=training)
            return logits if is_sum else tf.nn.log_softmax(logits)
        images = tf.convert_to_tensor(images)
        key = shared_pass_key(self.classifier)

        def one(index: tf.Tensor) -> tf.Tensor:
            if key is None:
                logits = classifier_logits(self.classifier, images)
            else:
                with draw_scope(fold_in(key, index)):
                    logits = classifier_logits(self.classifier, images)
            return logits if is_sum else tf.nn.log_softmax(logits)

        def add(index: tf.Tensor, state: tuple[tf.Tensor]) -> tuple[tf.Tensor]:
            join = tf.add if is_sum else _log_add
            return (join(state[0], one(index + 1)),)

        # Losses that layers add inside the loop cannot leave it.
        with preserve_losses(self.classifier):
            (total,) = fixed_loop(add, (one(0),), self.samples - 1, unroll=False)
        count = tf.math.log(tf.cast(self.samples, total.dtype))
        return total if is_sum else total - count

    def call(self, images: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Returns the mean probability of each class."""
        return tf.nn.softmax(self.logits(images, training=bool(training)))

    def get_config(self) -> dict[str, Any]:
        config = {"samples": self.samples, "combine": self.combine}
        return {**super().get_config(), **config}


def _log_add(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """Returns `log(exp(first) + exp(second))`."""
    return tf.reduce_logsumexp(tf.stack([first, second]), axis=0)
