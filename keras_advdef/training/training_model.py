"""TrainingModel: base of the models with a training step of their own."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.constraints import check_weight_decay
from keras_advdef.core.errors import checked_instance
from keras_advdef.core.export_model import export_model
from keras_advdef.core.keras_training import (
    build_metrics,
    loss_tracker,
    prepare_for_workers,
    unscale_loss_for_distribution,
    worker_logs,
)
from keras_advdef.core.logits import LogitsModel, classifier_logits, logits_from_outputs
from keras_advdef.core.model_inputs import (
    build_model,
    call_classifier,
    image_spec,
    single_input,
)
from keras_advdef.core.training_state import build_optimizer
from keras_advdef.training._batches import (
    Batch,
    FirstBatchCheck,
    StepFunction,
    check_first_batch,
    only_value,
    unpack_batch,
)
from keras_advdef.training._compiled_loss import (
    batch_loss,
    check_distribution,
    losses_and_mask,
    single_loss,
)
from keras_advdef.training._finite_guard import (
    FiniteGuard,
    FiniteStep,
    zeros_for_nonfinite,
)


class TrainingModel(LogitsModel):
    """Base of models that train a classifier in a way of their own.

    To the outside it is the classifier: `call`, `predict`, `export` and attacks see
    what the classifier returns, and `classifier` is the very object passed in, trained
    in place.

    This class fixes the order of `fit` and of each step, from top to bottom:

    - `fit`: `check_training` on the images, `check_test` on the validation images,
      then Keras's loop over `train_step` and `test_step`;
    - `train_step`: `train_on`, which is `prepare` and one `update` by the loss of
      `losses_per_example` at `weights_for_update`; then `training_logs`;
    - `test_step`: `measure`, Keras's own step, `test_logs`.

    A subclass writes `losses_per_example`, and the other named steps where it has
    something to add. What Keras's training step does is done here: compiled loss and
    metrics, sample and class weights, the layers' own losses once, loss scaling,
    distribution.

    A batch stops training with an error, before any callback sees it, if it, its loss
    or the new weights are not finite. Model and optimizer stay as they were before it.

    Args:
        classifier: A `keras.Model` that maps images to logits or probabilities.
        **kwargs: `name` and the like; see `keras.Model`.

    Raises:
        TypeError: If `classifier` is not a `keras.Model`.

    Example:

    >>> classifier = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten()])
    >>> model = keras_advdef.training.AdversarialTrainingModel(classifier)
    >>> model.classifier is classifier
    True
    """

    # How often a step applies the optimizer.
    updates_per_batch = 1

    def __init__(self, classifier: keras.Model, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        owner = type(self).__name__
        self.classifier = checked_instance(owner, "classifier", classifier, keras.Model)
        self.built = classifier.built
        self._guard = FiniteGuard(owner)
        self._is_checked = False
        prepare_for_workers(self)

    # What `fit` does, in its order.

    def fit(
        self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any
    ) -> keras.callbacks.History:
        """Trains the classifier; see `keras.Model.fit`.

        Args:
            x: Images, or a data set of images and labels.
            y: Labels.
            *args: As in Keras.
            **kwargs: As in Keras.

        Returns:
            A `keras.callbacks.History`.

        Raises:
            ValueError: If images or labels do not fit; if the model was not compiled
                with a single loss, or with options that do not work under the
                distribution strategy, or with a weight decay that defeats a
                `constraints.Parseval`; or if a batch, its loss or the weights after it
                are not finite.
        """
        is_checked = self._check_arrays(self.check_training, x, y)
        held_out = kwargs.get("validation_data")
        if isinstance(held_out, (tuple, list)):
            self._check_arrays(self.check_test, *held_out[:2])
        # Raises for a wrong loss before anything is traced.
        _ = self.example_loss
        check_distribution(self)
        if not self.built and isinstance(x, np.ndarray):
            # Some callbacks look at the model before the first step builds it.
            with self.distribute_strategy.scope():
                self(x[:1])
        replicas = self.distribute_strategy.num_replicas_in_sync
        if self.built and replicas > 1:
            # A backup is restored outside of the scope, where none can be made.
            build_optimizer(self)
        check_weight_decay(self, self.optimizer)
        given = self._guard.among_callbacks(x, y, *args, **kwargs)
        self._is_checked = is_checked
        try:
            return super().fit(**given)
        finally:
            self._is_checked = False

    def _check_arrays(
        self, check: Callable[[Any, Any], None], images: Any, labels: Any = None
    ) -> bool:
        """Checks images that lie in memory, all of them; returns whether they do."""
        images, labels = only_value(images), only_value(labels)
        if labels is None or not isinstance(images, (np.ndarray, tf.Tensor)):
            return False
        check(np.asarray(images), np.asarray(labels))
        return True

    def check_training(self, images: np.ndarray, labels: Any) -> None:
        """Raises if nobody can train on images of `fit`; the first batch or all."""
        del images, labels

    def look_at_first(self, images: np.ndarray, labels: Any) -> None:
        """Looks at the first batch of `fit` before the step is traced, if it is due.

        Args:
            images: The batch, that of one replica.
            labels: Its labels.
        """
        self.check_training(images, labels)

    def is_first_due(self) -> bool:
        """Returns whether `look_at_first` is due: not all images were checked yet."""
        return not self._is_checked

    def check_test(self, images: np.ndarray, labels: Any) -> None:
        """Raises if nobody can test on images of `evaluate`; the first batch or all."""
        del images, labels

    def make_train_function(self, force: bool = False) -> None:
        """Makes the function of a training step, which checks its first batch.

        Args:
            force: As in Keras.
        """
        self.train_function: StepFunction
        super().make_train_function(force)
        function = self.train_function
        if not isinstance(function, FirstBatchCheck):
            function = self._guard.raising(function)
        function = check_first_batch(self, function, self.look_at_first)
        # Under a strategy the step is traced once more for a batch taken out first.
        function.is_due = self.is_first_due()
        self.train_function = function

    def make_test_function(self, force: bool = False) -> None:
        """Makes the function of a test step, which checks its first batch.

        Args:
            force: As in Keras.
        """
        self.test_function: StepFunction
        super().make_test_function(force)
        function = self.test_function
        self.test_function = check_first_batch(self, function, self.check_test)

    def train_step(self, data: Any) -> dict[str, Any]:
        """Returns the logs of one step; see `keras.Model.train_step`.

        Args:
            data: A batch of images, labels and perhaps sample weights.
        """
        images, labels, weights = unpack_batch(data)
        if not self.built:
            single_input(type(self).__name__, images)
            build_model(self, images.shape[1:], images.dtype.name)
        data = {"images": images, "labels": labels, "sample_weight": weights}
        step = self._guard.begin_model_step(
            self, data, self.step_variables(), updates=self.updates_per_batch
        )
        batch = Batch(images, zeros_for_nonfinite(labels), weights)
        logs = self.train_on(batch, step)
        step.end()
        return worker_logs(self, self.training_logs(logs))

    def train_on(self, batch: Batch, step: FiniteStep) -> dict[str, Any]:
        """Makes the updates of a step, one unless a subclass makes more.

        Args:
            batch: The batch.
            step: Checks each update.

        Returns:
            The value of each metric by its name.
        """
        prepared = self.prepare(batch.images, batch.labels)
        return self.update(batch, prepared, step)[0]

    def update(
        self,
        batch: Batch,
        prepared: Any,
        step: FiniteStep,
        watched: Sequence[tf.Tensor] = (),
    ) -> tuple[dict[str, Any], list[tf.Tensor]]:
        """Updates weights and metrics once.

        Args:
            batch: The batch.
            prepared: What `prepare` returned for it.
            step: Checks the update.
            watched: Tensors in `prepared` whose gradients are wanted, too.

        Returns:
            The value of each metric by its name; and the gradients of the loss, scaled
            as the optimizer wants it, with respect to `watched`, at the weights before.
        """
        images, labels, weights = batch
        variables = self.trainable_weights

        def passed() -> tuple[tf.Tensor, Any]:
            losses, outputs = self.losses_per_example(images, labels, prepared)
            mask = self.example_mask(labels, outputs)
            return batch_loss(self, losses, weights, mask), outputs

        with self.weights_for_update(lambda: self.optimizer.scale_loss(passed()[0])):
            with tf.GradientTape() as tape:
                tape.watch(watched)
                loss, outputs = passed()
                scaled = self.optimizer.scale_loss(loss)
            found = tape.gradient(scaled, [*variables, *watched])
        loss_tracker(self).update_state(
            unscale_loss_for_distribution(loss), sample_weight=tf.shape(images)[0]
        )
        gradients = found[: len(variables)]
        step.check_update(loss, gradients, self.optimizer)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        logs = self.compute_metrics(images, labels, outputs, sample_weight=weights)
        return logs, found[len(variables) :]

    def step_variables(self) -> list[keras.Variable]:
        """Returns the variables that a step may write, except those of metrics."""
        return self.variables

    def prepare(self, images: tf.Tensor, labels: Any) -> Any:
        """Returns what the loss of a step needs, made outside the gradient tape.

        Args:
            images: A batch of images.
            labels: Their labels.
        """
        del images, labels

    def losses_per_example(
        self, images: tf.Tensor, labels: Any, prepared: Any
    ) -> tuple[tf.Tensor, Any]:
        """Returns the loss of each image, `(batch,)`, and outputs for the metrics.

        Args:
            images: A batch of images.
            labels: Their labels.
            prepared: What `prepare` returned for them.
        """
        raise NotImplementedError(
            f"`{type(self).__name__}` must write `losses_per_example`."
        )

    def weights_for_update(
        self, loss: Callable[[], tf.Tensor]
    ) -> contextlib.AbstractContextManager[None]:
        """Returns a scope for the pass that gives the gradients of the update.

        It may change weights, and must put them back.

        Args:
            loss: Gives the loss of the batch, scaled as the optimizer wants it.
        """
        del loss
        return contextlib.nullcontext()

    def training_logs(self, logs: dict[str, Any]) -> dict[str, Any]:
        """Returns the logs of a training step as users see them.

        Args:
            logs: The value of each metric by its name.
        """
        return logs

    def test_step(self, data: Any) -> dict[str, Any]:
        """Returns the logs of one evaluation step; see `keras.Model.test_step`.

        Args:
            data: A batch of images, labels and perhaps sample weights.
        """
        images, labels, weights = unpack_batch(data)
        self.measure(images, labels)
        logs = super().test_step((images, labels, weights))
        return worker_logs(self, self.test_logs(logs))

    def measure(self, images: tf.Tensor, labels: Any) -> None:
        """Updates metrics of `evaluate` that Keras does not know.

        Args:
            images: A batch of images.
            labels: Their labels.
        """
        del images, labels

    def test_logs(self, logs: dict[str, Any]) -> dict[str, Any]:
        """Returns the logs of an evaluation step as users see them.

        Args:
            logs: The value of each metric by its name.
        """
        return logs

    # What objectives and penalties ask for.

    def classifier_to_train(self) -> keras.Model:
        """Returns the classifier."""
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
        spec = image_spec(self.classifier)
        return logits_from_outputs(self.classifier, spec, outputs)

    @property
    def example_loss(self) -> keras.losses.Loss | Callable[..., tf.Tensor] | str:
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
        return losses_and_mask(self, labels, outputs)[0]

    def example_mask(self, labels: Any, outputs: Any) -> tf.Tensor | None:
        """Returns which labels the compiled loss counts, `None` for all of them.

        Args:
            labels: Labels as the user passed them.
            outputs: What the classifier returned for the images.
        """
        constant = tf.nest.map_structure(tf.stop_gradient, outputs)
        return losses_and_mask(self, labels, constant)[1]

    # What Keras and attacks ask for.

    def compile(
        self,
        optimizer: keras.optimizers.Optimizer | str = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        **kwargs: Any,
    ) -> None:
        """Sets how the classifier is trained; see `keras.Model.compile`.

        Args:
            optimizer: As in Keras.
            loss: One loss, also as the only value of a list or dictionary.
            loss_weights: One weight in the same form, or `None`.
            **kwargs: As in Keras.
        """
        loss, loss_weights = only_value(loss), only_value(loss_weights)
        super().compile(optimizer, loss, loss_weights, **kwargs)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles as a saved model was compiled; see `keras.Model`.

        Args:
            config: What `get_compile_config` returned.
        """
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self.optimizer.build(self.trainable_variables)

    def call(self, images: tf.Tensor, training: bool | None = None) -> Any:
        """Returns what the classifier returns."""
        return call_classifier(self.classifier, images, training=training)

    def logits(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the classifier's logits, float32 of shape `(batch, classes)`."""
        return classifier_logits(self.classifier, images, training=training)

    def member_logits(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
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
    ) -> tf.Tensor:
        """Returns the loss of a batch; see `keras.Model.compute_loss`.

        Args:
            x: Images.
            y: Labels.
            y_pred: Outputs, also as the only value of a list or dictionary.
            *args: As in Keras.
            **kwargs: As in Keras.
        """
        return super().compute_loss(x, y, only_value(y_pred), *args, **kwargs)

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Any]:
        """Returns the metrics of a batch; see `keras.Model.compute_metrics`.

        Args:
            x: Images.
            y: Labels.
            y_pred: Outputs.
            sample_weight: As in Keras.
        """
        build_metrics(self, y, y_pred)
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def defences(self) -> list[object]:
        """Returns what trains the classifier and may have a card: itself."""
        return [self]

    def export(self, filepath: str | Path, *args: Any, **kwargs: Any) -> None:
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
    def from_config(cls, config: dict[str, Any], **kwargs: Any) -> Self:
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
