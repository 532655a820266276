"""Trains the classifiers that the demo compares."""

from collections.abc import Callable, Sequence

import keras

from keras_advdef.attacks import PGD
from keras_advdef.callbacks import PerturbationSchedule
from keras_advdef.cli.demo._small_network import small_network
from keras_advdef.core.data.dataset import Dataset
from keras_advdef.training import AdversarialTrainingModel

_BATCH_SIZE = 64
_LEARNING_RATE = 1e-3
_TRAINING_STEPS = 7


def _fit(
    model: keras.Model,
    dataset: Dataset,
    epochs: int,
    *,
    advance: Callable[[str], None],
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> None:
    def report_epoch(epoch: int, logs: dict[str, float] | None = None) -> None:
        del epoch
        advance(f"loss {(logs or {})['loss']:.3f}")

    model.compile(
        optimizer=keras.optimizers.Adam(_LEARNING_RATE),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(
        dataset.x_train,
        dataset.y_train,
        batch_size=_BATCH_SIZE,
        epochs=epochs,
        verbose=0,
        callbacks=[
            *callbacks,
            keras.callbacks.LambdaCallback(on_epoch_end=report_epoch),
        ],
    )


def train_classifier(
    dataset: Dataset,
    epochs: int,
    *,
    epsilon: float | None,
    advance: Callable[[str], None],
) -> keras.Model:
    """Trains a small classifier, with or without a defence.

    With an epsilon, it is trained on PGD's adversarial images. Epsilon grows over the
    first third of the epochs: with a large epsilon from the start, a classifier may
    never leave the plateau of equal logits.

    Args:
        dataset: Images and labels.
        epochs: Passes over the training images.
        epsilon: Largest change of a pixel to train against, in `[0, 1]`; `None` to
            train on clean images.
        advance: Called with a short note after each epoch.

    Returns:
        A model from images to logits; an `AdversarialTrainingModel` if `epsilon` is
        given.
    """
    classifier = small_network(dataset.x_train.shape[1:], dataset.classes)
    if epsilon is None:
        _fit(classifier, dataset, epochs, advance=advance)
        return classifier
    model = AdversarialTrainingModel(classifier, PGD(epsilon, steps=_TRAINING_STEPS))
    growing = max(1, epochs // 3)
    warm_up = PerturbationSchedule(
        lambda epoch: epsilon * min(1.0, (epoch + 1) / growing), per="epoch"
    )
    _fit(model, dataset, epochs, advance=advance, callbacks=[warm_up])
    return model
