"""TrainingModel: base of the models with a training step of their own."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.constraints import check_weight_decay
from keras_advdef.core.errors import checked_instance
from keras_advdef.core.export_model import export_model
from keras_advdef.core.keras_training import (
    loss_tracker,
    prepare_for_workers,
    unscale_loss_for_distribution,
    worker_logs,
)
from keras_advdef.core.logits import LogitsModel, classifier_logits, logits_from_outputs
from keras_advdef.core.model_inputs import call_classifier, image_spec
from keras_advdef.training._check_distribution import check_distribution
from keras_advdef.training._example_loss import reduced, single_loss, values_and_mask
from keras_advdef.training._finite_guard import FiniteGuard
from keras_advdef.training._finite_step import without_flaws
from keras_advdef.training._first_batch import FirstBatch, checking_first
from keras_advdef.training._parts import alone, parts_of


class TrainingModel(LogitsModel):
    """Base of models that train a classifier in a way of their own.

    To the outside it is the classifier: `call`, `predict`, `export` and attacks see
    what the classifier returns, and `classifier` is the very object passed in, trained
    in place. A subclass writes `losses_per_example`; the base does what Keras's own
    training step does: compiled loss and metrics, sample and class weights, the
    layers' own losses once, loss scaling, distribution.

    A batch stops training with an error, before any callback sees it, if it or its loss
    or the new weights are not finite. Model and optimizer stay as they were before it.

    Args:
        classifier: A `keras.Model` that maps images to logits or probabilities.
        **kwargs: `name` and the like; see `keras.Model`.

    Raises:
        TypeError: If `classifier` is no `keras.Model`.

    Example:

    >>> classifier = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten()])
    >>> model = keras_advdef.training.AdversarialTrainingModel(classifier)
    >>> model.classifier is classifier
    True
    """

    def __init__(self, classifier: keras.Model, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        owner = type(self).__name__
        self.classifier = checked_instance(owner, "classifier", classifier, keras.Model)
        self.built = classifier.built
        self._guard = FiniteGuard(owner)
        prepare_for_workers(self)

    def check_training(self, images: np.ndarray, labels: Any) -> None:
        """Raises if the first images of `fit` are none to train on."""
        del images, labels

    def check_test(self, images: np.ndarray, labels: Any) -> None:
        """Raises if the first images of `evaluate` are none to test on."""
        del images, labels

    def make_train_function(self, force: bool = False) -> None:
        """Makes the function of a training step, which checks its first batch.

        Args:
            force: As in Keras.
        """
        self.train_function: Any
        super().make_train_function(force)
        made, check = self.train_function, self.check_training
        if not isinstance(made, FirstBatch):
            made = self._guard.watching(made)
        self.train_function = checking_first(self, made, check)

    def make_test_function(self, force: bool = False) -> None:
        """Makes the function of a test step, which checks its first batch.

        Args:
            force: As in Keras.
        """
        self.test_function: Any
        super().make_test_function(force)
        check = self.check_test
        self.test_function = checking_first(self, self.test_function, check)

    def prepare(self, images: Any, labels: Any) -> Any:
        """Returns what a step needs before its loss, made outside the weight tape."""
        del images, labels

    def losses_per_example(
        self, images: Any, labels: Any, prepared: Any
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the loss of each image, `(batch,)`, and outputs for the metrics."""
        raise NotImplementedError(
            f"`{type(self).__name__}` must write `losses_per_example`."
        )

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        **kwargs: Any,
    ) -> None:
        """Sets how the classifier is trained; see `keras.Model.compile`.

        Args:
            optimizer: As in Keras.
            loss: One loss, on its own or alone in a list or dictionary.
            loss_weights: One weight in the same form, or `None`.
            **kwargs: As in Keras.
        """
        loss, loss_weights = alone(loss), alone(loss_weights)
        super().compile(optimizer, loss, loss_weights, **kwargs)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles as a saved model was compiled; see `keras.Model`.

        Args:
            config: What `get_compile_config` returned.
        """
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self.optimizer.build(self.trainable_variables)

    def fit(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Trains the classifier; see `keras.Model.fit`.

        Args:
            x: Images, or a data set of images and labels.
            y: Labels.
            *args: As in Keras.
            **kwargs: As in Keras.

        Returns:
            A `keras.callbacks.History`.

        Raises:
            ValueError: If the model was not compiled with a single loss, or with
                options that do not work under the distribution strategy, or with a
                weight decay that defeats a `constraints.Parseval`; or if a batch, its
                loss or the weights after it are not finite.
        """
        # Looked at now, so that a wrong one is told before anything is traced.
        _ = self.example_loss
        check_distribution(self)
        if not self.built and isinstance(x, np.ndarray):
            # `fit` itself calls the classifier only, and some callbacks look first.
            with self.distribute_strategy.scope():
                self(x[:1])
        check_weight_decay(self, self.optimizer)
        return self._guard.training(super().fit, x, y, *args, **kwargs)

    @property
    def example_loss(self) -> Any:
        """The compiled loss: a `keras.losses.Loss`, a function, or a name of Keras's.

        Raises:
            ValueError: If the model is not compiled with exactly one.
        """
        return single_loss(self)

    def example_losses(self, labels: Any, outputs: Any) -> tf.Tensor:
        """Returns the compiled loss of each image, as Keras computes it.

        Its weight is included; labels that the loss ignores count 0.

        Args:
            labels: Labels as the user passed them.
            outputs: What the classifier returned for the images.

        Returns:
            Float32 tensor of shape `(batch,)`, or a scalar if the compiled loss
            returns one number for a batch.
        """
        return values_and_mask(self, labels, outputs)[0]

    def example_mask(self, labels: Any, outputs: Any) -> Any:
        """Returns which labels the compiled loss counts, `None` for all of them.

        Args:
            labels: Labels as the user passed them.
            outputs: What the classifier returned for the images.
        """
        constant = tf.nest.map_structure(tf.stop_gradient, outputs)
        return values_and_mask(self, labels, constant)[1]

    def call(self, images: Any, training: bool | None = None) -> Any:
        """Returns what the classifier returns."""
        return call_classifier(self.classifier, images, training=training)

    def logits(self, images: Any, training: bool = False) -> tf.Tensor:
        """Returns the classifier's logits, float32 of shape `(batch, classes)`."""
        return classifier_logits(self.classifier, images, training=training)

    @property
    def trained(self) -> keras.Model:
        """The classifier."""
        return self.classifier

    def logits_of(self, outputs: Any) -> tf.Tensor:
        """Returns the logits of the classifier's outputs, without another forward pass.

        Whatever head it has: a softmax, one sigmoid unit, log-probabilities or none.
        Objectives and penalties use it. If nothing shows how probabilities were made,
        their logarithm is returned, and a warning says so once.

        Args:
            outputs: What the classifier returned for a batch.

        Returns:
            Float32 tensor of shape `(batch, classes)`, with at least two classes.
        """
        return logits_from_outputs(
            self.classifier, image_spec(self.classifier), outputs
        )

    def member_logits(self, images: Any, training: bool = False) -> tf.Tensor:
        """Returns the logits of each member of the classifier."""
        if isinstance(self.classifier, LogitsModel):
            return self.classifier.member_logits(images, training=training)
        return super().member_logits(images, training=training)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Returns the loss of a batch; see `keras.Model.compute_loss`.

        Args:
            x: Images.
            y: Labels.
            y_pred: Outputs, which may stand alone in a list or dictionary.
            *args: As in Keras.
            **kwargs: As in Keras.
        """
        return super().compute_loss(x, y, alone(y_pred), *args, **kwargs)

    def train_step(self, data: Any) -> dict[str, Any]:
        """Returns the logs of one step; see `keras.Model.train_step`."""
        images, labels, weights = parts_of(data)
        if not self.built:
            self(images)
        batch = {"images": images, "labels": labels, "sample_weight": weights}
        step = self._guard.begin_training(self, batch, self.step_variables())
        labels = without_flaws(labels)
        prepared = self.prepare(images, labels)
        with tf.GradientTape() as tape:
            values, outputs = self.losses_per_example(images, labels, prepared)
            mask = self.example_mask(labels, outputs)
            loss = reduced(self, values, weights, mask)
            loss_tracker(self).update_state(
                unscale_loss_for_distribution(loss), sample_weight=tf.shape(images)[0]
            )
            scaled = self.optimizer.scale_loss(loss)
        variables = self.trainable_weights
        gradients = tape.gradient(scaled, variables)
        step.look(loss, gradients, self.optimizer)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        logs = self.compute_metrics(images, labels, outputs, sample_weight=weights)
        step.end()
        return worker_logs(self, logs)

    def step_variables(self) -> list[Any]:
        """Returns the variables that a step may write, those of metrics left out."""
        return self.variables

    def test_step(self, data: Any) -> dict[str, Any]:
        """Returns the logs of one evaluation step; see `keras.Model.test_step`."""
        return worker_logs(self, super().test_step(parts_of(data)))

    def defences(self) -> list[Any]:
        """Returns what trains the classifier and may have a card: itself."""
        return [self]

    def export(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        """Exports the classifier, with the cards of its training among the assets.

        Args:
            filepath: Folder or file to write.
            *args: As in Keras.
            **kwargs: As in Keras.
        """
        defended = self.defences()
        export_model(self.classifier, filepath, *args, defended=defended, **kwargs)

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        return {
            "classifier": serialize(self.classifier),
            "name": self.name,
            "dtype": serialize(self.dtype_policy),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], **kwargs: Any) -> "TrainingModel":
        """Returns a model made from `get_config`.

        Args:
            config: The dictionary.
            **kwargs: `custom_objects`, as in Keras.
        """
        return cls(
            **{
                name: keras.saving.deserialize_keras_object(value, **kwargs)
                for name, value in config.items()
            }
        )
