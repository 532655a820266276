"""The steps of `harden` in their order."""

import dataclasses
import functools
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import keras_advdef
from keras_advdef.callbacks.catastrophic_overfitting_guard import (
    CatastrophicOverfittingGuard,
)
from keras_advdef.callbacks.swap_averaged_weights import SwapAveragedWeights
from keras_advdef.core.digest import array_digest
from keras_advdef.core.errors import is_rejection
from keras_advdef.core.model_inputs import (
    add_channels,
    build_model,
    check_image_shape,
)
from keras_advdef.core.progress import Progress
from keras_advdef.core.versions import versions
from keras_advdef.evaluation import RobustnessReport, evaluate_robustness
from keras_advdef.recipes._harden.batches import Batches
from keras_advdef.recipes._harden.certificates import (
    certified_share,
    check_certifiable,
)
from keras_advdef.recipes._harden.choices import Choices
from keras_advdef.recipes._harden.epoch_end import EpochEnd, Record
from keras_advdef.recipes._harden.growing import growing
from keras_advdef.recipes._harden.ingredients import (
    OptimizerSchedule,
    compiled,
    optimizer_of,
    selecting,
    trainer,
)
from keras_advdef.recipes._harden.journal import Journal
from keras_advdef.recipes._harden.plan import (
    MOST_EPOCHS,
    PROBES,
    STATISTICS_BATCHES,
    Plan,
    planned,
)
from keras_advdef.recipes._harden.request import OWNER, Request
from keras_advdef.recipes._harden.timing import chosen_precision, seconds_per_step
from keras_advdef.recipes._harden.training_data import TrainingData
from keras_advdef.recipes.hardened_model import AFTER, BEFORE, MODEL, HardenedModel
from keras_advdef.training import AdversarialTrainingModel

_LEAST_PATIENCE = 5
# Images of the picture of epsilon.
_SHOWN = 4
# What changes no result.
_NAMES = ("model", "output", "class_names", "data_name")


class Training(NamedTuple):
    """What is trained, and with what.

    Attributes:
        model: The compiled training model around the user's classifier.
        batches: Its images.
        choices: What was chosen.
        precision: Of its attacks.
    """

    model: AdversarialTrainingModel
    batches: Batches
    choices: Choices
    precision: str


class Hardening:
    """Evaluates, plans, trains and evaluates again.

    Args:
        request: What was asked for.
        data: The images.
        progress: Receives what happens.
    """

    def __init__(
        self, request: Request, data: TrainingData, progress: Progress
    ) -> None:
        self.request, self.data = request, data
        self._progress = progress
        self._begun = time.monotonic()
        images = data.arrays.images
        if not request.model.built:
            build_model(request.model, images.shape[1:])
        check_image_shape(OWNER, request.model, add_channels(images))
        if request.is_certified:
            check_certifiable(request.model, add_channels(images).shape[1:])
        self.journal = Journal(request.output, self._identity())

    def _identity(self) -> dict[str, Any]:
        """What two calls must share so that one continues the other."""
        request = self.request
        settings = {
            field.name: getattr(request, field.name)
            for field in dataclasses.fields(request)
            if field.name not in _NAMES
        }
        data = self.data
        return {
            "model": array_digest(*request.model.get_weights()),
            "train_data": data.fingerprint(),
            "validation_data": [
                each.fingerprint() for each in (data.selection, data.report)
            ],
            **json.loads(json.dumps(settings)),
            "version of keras_advdef": keras_advdef.__version__,
        }

    def run(self) -> HardenedModel:
        """Returns the hardened model, or the finished one of the folder."""
        request, finished = self.request, self.journal.finished
        if finished is not None and request.output is not None:
            return self._loaded(finished, request.output)
        training = self._prepared()
        begun = time.monotonic()
        before = self._evaluate(BEFORE)
        record = self._train(training, time.monotonic() - begun)
        after = self._evaluate(AFTER)
        hardened = HardenedModel(
            model=request.model,
            before=before,
            after=after,
            history=record.history,
            facts=self._facts(record, training),
            example=self._example(),
        )
        if request.output is not None:
            hardened.save(request.output)
        self.journal.finish({"facts": hardened.facts, "history": hardened.history})
        return hardened

    def _loaded(self, finished: dict[str, Any], folder: Path) -> HardenedModel:
        """Returns the finished run of the folder, its weights in the user's model."""
        request = self.request
        self._progress.line("This run has already finished; returning its result.")
        request.model.load_weights(folder / MODEL)
        return HardenedModel(
            model=request.model,
            before=RobustnessReport.load(folder / BEFORE),
            after=RobustnessReport.load(folder / AFTER),
            history=finished["history"],
            facts=finished["facts"],
            example=self._example(),
        )

    def _facts(self, record: Record, training: Training) -> dict[str, Any]:
        request, data = self.request, self.data
        return {
            "recipe": request.recipe,
            "epsilon": request.epsilon,
            "epsilon_text": request.epsilon_text,
            "norm": request.norm,
            "value_range": list(request.value_range),
            "seed": request.seed,
            "epochs": record.epochs,
            "best_epoch": record.best_epoch,
            "stopped": record.stopped,
            "seconds": record.seconds,
            "precision": training.precision,
            "notes": [*data.notes, *training.choices.notes],
            "data": f"{len(data.arrays)} training images, {len(data.selection)} to "
            f"choose the epoch, {len(data.report)} for the reports",
            "versions": versions(),
        }

    def _example(self) -> np.ndarray:
        """Returns a few images in `[0, 1]`, clean and attacked."""
        request, shown = self.request, self.data.report
        images = shown.images[:_SHOWN].astype(np.float32)
        attacked = selecting(request, "float32").generate(
            request.model,
            images,
            shown.labels[:_SHOWN],
            seed=request.seed,
            batch_size=_SHOWN,
            verbose=0,
        )
        return request.value_range.to_unit(np.stack([images, attacked]))

    def _evaluate(self, name: str) -> RobustnessReport:
        """Attacks the model on the images of the report.

        Args:
            name: "before" or "after".
        """
        request, report = self.request, self.data.report
        folder = None if request.output is None else request.output / name
        self._progress.line(f"Attacking the model {name} training:")
        return evaluate_robustness(
            request.model,
            report.images,
            report.labels,
            epsilon=request.epsilon,
            norm=request.norm,
            value_range=request.value_range,
            budget="quick",
            batch_size=request.batch_size,
            output=folder,
            seed=request.seed,
            class_names=request.class_names,
            data_name=request.data_name,
            verbose=self._progress,
        )

    def _prepared(self) -> Training:
        """Returns what is trained and with what, once everything has been checked."""
        request, data, known = self.request, self.data, self.journal.facts
        precision = (
            known["plan"]["precision"] if known else chosen_precision(request, data)
        )
        model = trainer(request, precision)
        choices = Choices.of(request, data, model.augmentation.layers)
        with model.distribute_strategy.scope():
            optimizer = optimizer_of(request, choices)
        compiled(model, optimizer, data.arrays)
        model.check_training(data.arrays.images, data.arrays.labels)
        model.check_test(data.selection.images, data.selection.labels)
        batches = Batches(
            data,
            batch_size=request.batch_size,
            seed=request.seed,
            augment=choices.augment,
            low=request.value_range.low,
        )
        return Training(model, batches, choices, precision)

    def _train(self, training: Training, evaluation_seconds: float) -> Record:
        """Plans and trains, or continues; leaves the best weights in the model."""
        request, known = self.request, self.journal.facts
        first = request.model.get_weights()
        for note in (*self.data.notes, *training.choices.notes):
            self._progress.line(note)
        plan = (
            Plan(**known["plan"])
            if known
            else self._planned(training, evaluation_seconds)
        )
        self._progress.line(plan.sentence)
        if not request.is_certified:
            text = f"Attacks in training are crafted in {plan.precision}."
            self._progress.line(text)
        record = self._restored(training.model)
        try:
            self._fit(training, plan, record)
        finally:
            request.model.set_weights(record.best or first)
        return record

    def _planned(self, training: Training, evaluation_seconds: float) -> Plan:
        step = seconds_per_step(
            training.model, training.batches, class_weight=self.request.class_weight
        )
        return planned(
            self.request,
            self.data,
            precision=training.precision,
            step=step,
            spent=time.monotonic() - self._begun,
            evaluation=evaluation_seconds,
        )

    def _restored(self, model: AdversarialTrainingModel) -> Record:
        """Returns the record of a stopped run, its state in the model, or a new one."""
        if self.journal.facts is None:
            return Record()
        best = self.journal.restore(model)
        record = Record(**self.journal.facts["record"], best=best)
        self._progress.line(f"Continuing after epoch {record.epochs}.")
        return record

    def _fit(self, training: Training, plan: Plan, record: Record) -> None:
        if record.epochs >= plan.epochs or record.stopped:
            return
        request, data = self.request, self.data
        per_epoch = data.batches_per_epoch(request.batch_size)
        averaging = None
        if request.averaging > 0.0:
            averaging = SwapAveragedWeights(
                training.batches.dataset, most=STATISTICS_BATCHES
            )
        end = EpochEnd(
            record,
            self.journal,
            selection=data.selection,
            averaging=averaging,
            plan=plan,
            steps=per_epoch,
            patience=request.patience or self._patience(plan),
            progress=self._progress,
            batch_size=request.batch_size,
            certified=functools.partial(certified_share, request, data.selection)
            if request.is_certified
            else None,
        )
        choices = training.choices
        schedule = OptimizerSchedule(
            choices.rate, steps=per_epoch, plan=plan, averaging=request.averaging
        )
        callbacks = [training.batches, schedule]
        if choices.warm_up:
            callbacks += growing(request, training.model, plan=plan, steps=per_epoch)
        callbacks += [*self._guard(), end]
        try:
            training.model.fit(
                training.batches.dataset,
                # The callback at the end of an epoch stops it.
                epochs=MOST_EPOCHS if plan.training_seconds else plan.epochs,
                initial_epoch=record.epochs,
                shuffle=False,
                verbose=0,
                class_weight=request.class_weight,
                callbacks=callbacks,
            )
        except ValueError as error:
            # The finite guard's: weights that are not finite never reach the model.
            if not (is_rejection(error) and record.best):
                raise
            record.stopped = f"stopped after epoch {record.epochs}: {error}"
            self._progress.line(f"Training {record.stopped}")

    def _guard(self) -> list[CatastrophicOverfittingGuard]:
        """Returns the guard that single-step training needs, if it is wanted."""
        request, probes = self.request, self.data.selection
        if not request.guard or request.recipe != "fast":
            return []
        return [
            CatastrophicOverfittingGuard(
                probes.images[:PROBES].astype(np.float32),
                probes.labels[:PROBES],
                epsilon=request.epsilon,
                value_range=request.value_range,
                norm=request.norm,
                batch_size=request.batch_size,
                seed=request.seed,
                verbose=self._progress,
            )
        ]

    def _patience(self, plan: Plan) -> int:
        """Returns the default: while epsilon grows, certificates do not get better."""
        if self.request.is_certified:
            return plan.epochs
        return max(_LEAST_PATIENCE, plan.epochs // 3)
