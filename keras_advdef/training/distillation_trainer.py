"""DistillationTrainer: trains a student on a teacher's softened probabilities."""

from typing import Any

import keras
import tensorflow as tf

from keras_advdef.core.cards import Break, DefenceCard, defence
from keras_advdef.core.duplicate import duplicate
from keras_advdef.core.errors import checked_instance, checked_number, invalid
from keras_advdef.core.labels import sparse_labels
from keras_advdef.core.logits import classifier_logits, logits_from_outputs
from keras_advdef.core.softmax_head import undo_head
from keras_advdef.layers import ImageQuilting
from keras_advdef.training._compiled_loss import batch_loss
from keras_advdef.training.adversarial_training_model import AdversarialTrainingModel
from keras_advdef.training.training_model import TrainingModel

# Their statistics of the images are not trained, so the student gets a copy.
_ADAPTED = (keras.layers.Normalization, ImageQuilting)


@keras.saving.register_keras_serializable(package="keras_advdef")
class _AtTemperature(keras.losses.Loss):
    """The cross-entropy of labels and logits at a temperature."""

    def __init__(self, temperature: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.temperature = temperature

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Returns the loss of each image.

        Args:
            y_true: Labels, integer or one-hot.
            y_pred: Logits.
        """
        logits = undo_head("DistillationTrainer", y_pred)
        if logits is None:
            logits = tf.cast(y_pred, tf.float32)
        labels = sparse_labels(y_true)
        return tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels, logits / self.temperature
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "temperature": self.temperature}


@defence(
    DefenceCard(
        summary="Trains a second net on the softened probabilities of a first net.",
        category="robust training",
        paper="Papernot, McDaniel, Wu, Jha, Swami: Distillation as a Defense to "
        "Adversarial Perturbations against Deep Neural Networks, IEEE S&P 2016",
        claim="The success rate of JSMA falls from 96 % to 0.5 % on MNIST, and from "
        "88 % to 5 % on CIFAR-10.",
        standing="broken",
        breaks=(
            Break(
                attack="C&W on logits",
                result="100 % success with perturbations as small as for an undefended "
                "net: large logits only hide the gradient (gradient masking)",
                source="Carlini, Wagner: Towards Evaluating the Robustness of Neural "
                "Networks, IEEE S&P 2017",
            ),
        ),
        attacks=("CarliniWagner", "AutoAttack"),
        training_cost="training the teacher, and one forward pass of it per step",
        inference_cost="none",
    )
)
@keras.saving.register_keras_serializable(package="keras_advdef")
class DistillationTrainer(TrainingModel):
    """Trains a student like the teacher on the teacher's softened probabilities.

    With logits z the probabilities at temperature T are `softmax(z / T)`. The teacher
    is trained at T on labels, and `fit` trains the student at the same T on the
    teacher's probabilities. The student is used at T = 1, where its logits are T times
    as large as usual and mask gradients: a defence to study, not to rely on.

    `keras.distillation.Distiller` with `LogitsDistillation(T)` minimises the same up to
    a constant and a factor T^2, and adds a loss on true labels. It compresses models,
    needs a trained teacher and another net as student, and ignores sample weights. Here
    labels are for metrics only.

    If a batch, its loss or the weights after it are not finite, training stops with an
    error and the net keeps the weights it had before that batch.

    Args:
        teacher: A built `keras.Model` that returns logits. `fit_teacher` trains it;
            a trained teacher does not need that.
        student: A built `keras.Model` that returns as many logits; `None` for a freshly
            initialised copy of the teacher.
        temperature: Number above 0.
        **kwargs: `name` and the like; see `keras.Model`.

    Raises:
        TypeError: If a model is not a `keras.Model`.
        ValueError: If `temperature` is not above 0, a model ends in a softmax, or the
            models' inputs or outputs differ.

    Example:

    >>> teacher = keras.Sequential([
    ...     keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    >>> trainer = keras_advdef.training.DistillationTrainer(teacher, temperature=20.0)
    >>> trainer.compile("adam", metrics=["accuracy"])
    >>> x, y = np.zeros((4, 4, 4, 1)), np.zeros(4)
    >>> history = trainer.fit_teacher(x, y, verbose=0)
    >>> history = trainer.fit(x, y, verbose=0)
    >>> sorted(history.history)
    ['accuracy', 'loss']
    >>> trainer.predict(x, verbose=0).shape
    (4, 2)
    """

    def __init__(
        self,
        teacher: keras.Model,
        student: keras.Model | None = None,
        *,
        temperature: float = 20.0,
        **kwargs: Any,
    ) -> None:
        owner = type(self).__name__
        checked_instance(owner, "teacher", teacher, keras.Model)
        if student is None:
            student = duplicate(teacher, kinds=_ADAPTED)
        super().__init__(student, **kwargs)
        for argument, model in (("teacher", teacher), ("student", student)):
            _check_built(owner, argument, model)
        _check_alike(owner, teacher, student)
        self.temperature = checked_number(
            owner, "temperature", temperature, low=0.0, low_open=True
        )
        self.teacher = teacher

    @property
    def student(self) -> keras.Model:
        """The model that `fit` trains."""
        return self.classifier

    @property
    def losses(self) -> list[tf.Tensor]:
        """The losses of the student's layers."""
        return self.classifier.losses

    @property
    def trainable_weights(self) -> list[keras.Variable]:
        """The student's, since the teacher is not trained."""
        return self.classifier.trainable_weights

    @property
    def trainable_variables(self) -> list[keras.Variable]:
        """The student's."""
        return self.classifier.trainable_variables

    def step_variables(self) -> list[keras.Variable]:
        """Returns the student's variables."""
        return self.classifier.variables

    def compile(
        self,
        optimizer: keras.optimizers.Optimizer | str = "adam",
        loss: None = None,
        loss_weights: Any = None,
        **kwargs: Any,
    ) -> None:
        """Sets the optimizer and metrics; the loss is fixed.

        Args:
            optimizer: As in Keras; the teacher gets a fresh one of the same settings.
            loss: Left out.
            loss_weights: As in Keras.
            **kwargs: `metrics` and what else `keras.Model.compile` takes.

        Raises:
            ValueError: If there is a `loss`.
        """
        if loss is not None:
            advice = "The student's loss is its cross-entropy to the teacher."
            raise invalid(type(self).__name__, "loss", "left out", "", advice=advice)
        known = _AtTemperature(self.temperature)
        super().compile(optimizer, known, loss_weights, **kwargs)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles as a saved model was compiled; see `keras.Model`.

        Args:
            config: What `get_compile_config` returned.
        """
        super().compile_from_config({**config, "loss": None})

    def fit_teacher(
        self, x: Any = None, y: Any = None, **kwargs: Any
    ) -> keras.callbacks.History:
        """Trains the teacher at the temperature, on labels.

        Args:
            x: Images, or a data set of images and labels.
            y: Labels, integer or one-hot.
            **kwargs: As of `keras.Model.fit`.

        Returns:
            A `keras.callbacks.History`.

        Raises:
            ValueError: If the trainer is not compiled, or as of `TrainingModel.fit`.
        """
        if not self.compiled:
            rule = "compiled before `fit_teacher`"
            raise invalid(type(self).__name__, "trainer", rule, self.name)
        settings = keras.optimizers.serialize(self.optimizer)
        training = AdversarialTrainingModel(self.teacher)
        training.compile(
            keras.optimizers.deserialize(settings),
            _AtTemperature(self.temperature),
            metrics=["accuracy"],
            run_eagerly=self.run_eagerly,
            steps_per_execution=self.steps_per_execution,
            jit_compile=self.jit_compile,
        )
        return training.fit(x, y, **kwargs)

    def soft_labels(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the teacher's probabilities at the temperature.

        Args:
            images: Batch of images.

        Returns:
            Float32 tensor `(batch, classes)`.
        """
        logits = classifier_logits(self.teacher, images)
        return tf.nn.softmax(logits / self.temperature)

    def prepare(self, images: tf.Tensor, labels: Any) -> tf.Tensor:
        """Returns the teacher's probabilities."""
        del labels
        return tf.stop_gradient(self.soft_labels(images))

    def losses_per_example(
        self, images: tf.Tensor, labels: Any, prepared: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the student's cross-entropy to the teacher, and its logits."""
        del labels
        outputs = self.classifier(images, training=True)
        return self._to_teacher(prepared, images, outputs), outputs

    def example_mask(self, labels: Any, outputs: Any) -> None:
        """Returns `None`: every image counts, whatever its label."""
        del labels, outputs

    def _to_teacher(
        self, probabilities: tf.Tensor, images: Any, outputs: Any
    ) -> tf.Tensor:
        logits = logits_from_outputs(self.classifier, images, outputs)
        logits /= self.temperature
        return tf.nn.softmax_cross_entropy_with_logits(probabilities, logits)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> tf.Tensor:
        """Returns the loss of validation, as of training."""
        del y, training
        losses = self._to_teacher(self.soft_labels(x), x, y_pred)
        return batch_loss(self, losses, sample_weight)

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        return {
            "teacher": serialize(self.teacher),
            "student": serialize(self.student),
            "temperature": self.temperature,
            "name": self.name,
            "dtype": serialize(self.dtype_policy),
        }


def _check_built(owner: str, argument: str, model: keras.Model) -> None:
    if not model.built:
        advice = "Give it a `keras.Input`, or call it once on images."
        raise invalid(owner, argument, "a built model", model, advice=advice)


def _check_alike(owner: str, teacher: keras.Model, student: keras.Model) -> None:
    for part in ("input_shape", "output_shape"):
        expected, found = (getattr(each, part, None) for each in (teacher, student))
        if None not in (expected, found) and expected != found:
            rule = f"a model of the teacher's {part.replace('_', ' ')}, {expected}"
            raise invalid(owner, "student", rule, found)
