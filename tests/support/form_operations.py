"""What users do with a classifier, tried on each form of `model_forms`.

An operation does the same to a form and to its twin with the logits laid bare, and
compares. `outcome` is what a user meets: "equal", or the sentence that refuses.
"""

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

import keras_advdef as advdef
from keras_advdef.recipes._harden import run
from tests.support.generators import small_generator
from tests.support.model_forms import Brought, ModelForm

EQUAL = "equal"
# A head that cannot be removed loses digits where its probabilities saturate.
_TOLERANCE = {"logits": 1e-5, "logarithm": 1e-3}
_BATCH = 4
_SEED = 7


def outcome(operation: str, form: ModelForm) -> str:
    """Returns "equal", or the sentence that refuses; raises if results differ."""
    keras.backend.clear_session()
    try:
        OPERATIONS[operation](form)
    except (TypeError, ValueError) as error:
        sentence = str(error)
        # A refusal is one of ours, `Owner` expects `argument` to be ..., or Keras's
        # own to load what may run foreign code.
        is_ours = re.match("`.*` expects `.*` to be ", sentence)
        assert is_ours or not form.saves, sentence
        return re.sub(" at 0x[0-9a-f]+", "", sentence)
    return EQUAL


def _close(form: ModelForm, found: Any, expected: Any) -> None:
    tolerance = _TOLERANCE[form.through]
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def _same_images(form: ModelForm, brought: Brought, found: Any, expected: Any) -> None:
    """Equal images up to rounding, which may flip the sign of a tiny gradient."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == brought.images.shape
    clean = brought.images.astype("float32")
    span = brought.value_range[1] - brought.value_range[0]
    assert np.abs(expected - clean).max() > 0.01 * span, "the attack did nothing"
    apart = np.abs(found - expected) > _TOLERANCE[form.through] * span
    assert apart.mean() <= 0.02


def attack_on(brought: Brought, **changes: Any) -> advdef.attacks.Attack:
    """A short attack scaled to the form's value range."""
    low, high = brought.value_range
    settings = {"epsilon": 0.1 * (high - low), "steps": 2, **changes}
    return advdef.attacks.PGD(value_range=brought.value_range, **settings)


def _history(
    brought: Brought, *, validate: bool, kind: Any, **arguments: Any
) -> dict[str, list[float]]:
    keras.utils.set_random_seed(_SEED)
    model = kind(brought.model, seed=_SEED, **arguments)
    model.compile(keras.optimizers.SGD(0.1), brought.loss)
    few = brought.images[:_BATCH], brought.labels[:_BATCH]
    fitted = model.fit(
        brought.images,
        brought.labels,
        batch_size=_BATCH,
        shuffle=False,
        verbose=0,
        validation_data=few if validate else None,
    )
    return fitted.history


def _fit(
    form: ModelForm,
    arguments: Callable[[Brought], dict[str, Any]],
    *,
    validate: bool = True,
    kind: Any = advdef.training.AdversarialTrainingModel,
) -> None:
    brought, bare = form.make(), form.make(bare=True)
    found, expected = (
        _history(each, validate=validate, kind=kind, **arguments(each))
        for each in (brought, bare)
    )
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert np.isfinite(values).all(), name
        _close(form, found[name], values)


def adversarial_training(form: ModelForm) -> None:
    """`AdversarialTrainingModel.fit` with an attack."""
    _fit(form, lambda brought: {"attack": attack_on(brought)})


def free_training(form: ModelForm) -> None:
    """`FreeAdversarialTrainingModel.fit`."""

    def arguments(brought: Brought) -> dict[str, Any]:
        low, high = brought.value_range
        return {
            "epsilon": 0.1 * (high - low),
            "replays": 2,
            "value_range": brought.value_range,
        }

    _fit(form, arguments, kind=advdef.training.FreeAdversarialTrainingModel)


def trades(form: ModelForm) -> None:
    """`fit` with TRADES and perturbed weights."""
    _fit(
        form,
        lambda brought: {
            "attack": attack_on(brought),
            "objective": advdef.objectives.TRADES(),
            "weight_perturbation": 0.01,
        },
        validate=False,
    )


def hardening(form: ModelForm) -> None:
    """`harden`, compiled and not, without the evaluations before and after."""
    found = {}
    for bare in (False, True):
        brought = form.make(bare)
        if not bare:
            brought.model.compile("sgd", brought.loss)
        span = brought.value_range[1] - brought.value_range[0]
        keras.utils.set_random_seed(_SEED)
        with mock.patch.object(run, "evaluate_robustness", _unattacked):
            hardened = advdef.harden(
                brought.model,
                (brought.images, brought.labels),
                (brought.images, brought.labels),
                epsilon=0.1 * span,
                value_range=brought.value_range,
                epochs=1,
                batch_size=_BATCH,
                precision="float32",
                learning_rate=0.01,
                seed=_SEED,
                guard=False,
                verbose=0,
            )
        found[bare] = hardened.history
    assert found[False].keys() >= {"loss", "val_adversarial_accuracy"}
    for name in ("loss", "adversarial_accuracy", "val_adversarial_accuracy"):
        _close(form, found[False][name], found[True][name])


def _unattacked(model: Any, *given: Any, **named: Any) -> Any:
    """Stands for an evaluation, which other operations try."""
    return advdef.evaluation.RobustnessReport({})


def validation_attack(form: ModelForm) -> None:
    """`fit` with only a `validation_attack`."""
    _fit(form, lambda brought: {"validation_attack": attack_on(brought)})


def penalties(form: ModelForm) -> None:
    """`fit` with both penalties and an objective with a clean term.

    None of them changes how a model is validated, which other operations compare.
    """
    objectives = advdef.objectives
    _fit(
        form,
        lambda brought: {
            "attack": attack_on(brought, steps=1),
            "objective": objectives.AdversarialCrossEntropy(clean_weight=0.5),
            "penalties": [
                objectives.CrossLipschitz(weight=0.01),
                objectives.DeepDefense(weight=0.1, steps=1),
            ],
        },
        validate=False,
    )


def own_function(form: ModelForm) -> None:
    """An attack inside a user's own `tf.function`."""
    brought = form.make()
    attack = attack_on(brought)

    def crafted(model: Any) -> np.ndarray:
        traced = tf.function(
            lambda images, labels: attack(model, images, labels, seed=_SEED)
        )
        images = tf.constant(brought.images, tf.float32)
        return traced(images, tf.constant(brought.labels)).numpy()

    _same_images(form, brought, crafted(brought.model), crafted(form.make(True).model))


def generate(form: ModelForm) -> None:
    """`Attack.generate` on arrays, with a partial last batch."""
    brought, bare = form.make(), form.make(bare=True)
    attack = attack_on(brought)
    found, expected = (
        attack.generate(
            each.model, each.images, each.labels, seed=_SEED, batch_size=8, verbose=0
        )
        for each in (brought, bare)
    )
    _same_images(form, brought, found, expected)


def evaluate(form: ModelForm) -> None:
    """`evaluate_robustness`: equal accuracies, and no head is taken for masking."""
    brought, bare = form.make(), form.make(bare=True)
    low, high = brought.value_range
    found, expected = (
        advdef.evaluation.evaluate_robustness(
            each.model,
            each.images,
            each.labels,
            epsilon=0.05 * (high - low),
            value_range=each.value_range,
            budget="quick",
            verbose=0,
        ).data
        for each in (brought, bare)
    )
    for name in ("clean", "naive", "adaptive"):
        assert found[name]["accuracy"] == expected[name]["accuracy"], name
    assert found["masking_suspected"] == expected["masking_suspected"]


def corruptions(form: ModelForm) -> None:
    """`evaluate_corruptions`: equal accuracies."""
    found, expected = (
        advdef.evaluation.evaluate_corruptions(
            each.model,
            each.images,
            each.labels,
            corruptions=["impulse_noise", "contrast", "jpeg_compression"],
            severities=[2, 5],
            value_range=each.value_range,
            batch_size=8,
            verbose=0,
        ).to_json()
        for each in (form.make(), form.make(bare=True))
    )
    assert found == expected


def _predicted(form: ModelForm, wrapped: Callable[[Brought], Any]) -> None:
    """Compares the predictions of both forms in a composition, of any structure."""
    brought, bare = form.make(), form.make(bare=True)
    found, expected = (
        wrapped(each).predict(each.images, batch_size=8, verbose=0)
        for each in (brought, bare)
    )
    tf.nest.map_structure(lambda one, other: _close(form, one, other), found, expected)


def ensemble(form: ModelForm) -> None:
    """`AveragingEnsemble` and `RandomSelfEnsemble`."""
    models = advdef.models
    other = form.make(bare=True).model
    _predicted(form, lambda brought: models.AveragingEnsemble([brought.model, other]))
    _predicted(form, lambda brought: models.RandomSelfEnsemble(brought.model))


def detector(form: ModelForm) -> None:
    """`FeatureSqueezingDetector`, calibrated."""

    def calibrated(brought: Brought) -> Any:
        squeezer = advdef.layers.BitDepthReduction(3, value_range=brought.value_range)
        made = advdef.models.FeatureSqueezingDetector(brought.model, [squeezer])
        made.calibrate(brought.images)
        return made

    _predicted(form, calibrated)


def smoothed(form: ModelForm) -> None:
    """`SmoothedClassifier.certify`."""
    brought, bare = form.make(), form.make(bare=True)
    found, expected = (
        advdef.models.SmoothedClassifier(
            each.model, stddev=0.1 * each.value_range[1], samples=8
        ).certify(each.images, samples=16, seed=_SEED)
        for each in (brought, bare)
    )
    np.testing.assert_array_equal(found.classes, expected.classes)
    _close(form, found.radii, expected.radii)


def projection(form: ModelForm) -> None:
    """`DefenseGAN` in front of the form."""

    def projected(brought: Brought) -> Any:
        shape = (*brought.images.shape[1:3], 1)
        generator = small_generator(shape)
        if brought.value_range[1] > 1.0:
            generator.add(keras.layers.Rescaling(brought.value_range[1]))
        return advdef.models.DefenseGAN(
            generator,
            brought.model,
            steps=2,
            restarts=2,
            seed=_SEED,
            value_range=brought.value_range,
        )

    _predicted(form, projected)


def surgery(form: ModelForm) -> None:
    """Every surgery; its result computes the same as before if it changes nothing."""
    brought = form.make()
    operations = advdef.surgery
    expected = np.asarray(brought.model.predict(brought.images, verbose=0))
    same = (
        operations.insert_noise(brought.model, first=0.0, inner=0.0),
        operations.rewrite(brought.model, lambda layer: None),
    )
    for model in same:
        _close(form, model.predict(brought.images, verbose=0), expected)
    changed = (
        operations.insert_pruning(brought.model),
        operations.to_variational(brought.model, copy=True),
        operations.parseval_network(brought.model),
    )
    for model in changed:
        found = model.predict(brought.images, verbose=0)
        assert np.shape(found) == np.shape(expected)
        assert np.isfinite(found).all()


def distillation(form: ModelForm) -> None:
    """`DistillationTrainer`: the student learns the same as from a bare teacher."""
    found = {}
    for bare in (False, True):
        brought = form.make(bare)
        keras.utils.set_random_seed(_SEED)
        trainer = advdef.training.DistillationTrainer(brought.model, temperature=5.0)
        trainer.compile(keras.optimizers.SGD(0.1))
        fitted = trainer.fit(
            brought.images, brought.labels, batch_size=_BATCH, shuffle=False, verbose=0
        )
        found[bare] = fitted.history["loss"]
    _close(form, found[False], found[True])


def round_trip(form: ModelForm) -> None:
    """The training model saved as a `.keras` file predicts the same."""
    brought = form.make()
    trained = advdef.training.AdversarialTrainingModel(
        brought.model, attack_on(brought)
    )
    expected = np.asarray(trained.predict(brought.images, verbose=0))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.keras")
        trained.save(file)
        loaded = keras.models.load_model(file)
    np.testing.assert_allclose(
        loaded.predict(brought.images, verbose=0), expected, rtol=1e-6, atol=1e-6
    )


def export(form: ModelForm) -> None:
    """The exported model equals the evaluated one."""
    brought = form.make()
    trained = advdef.training.AdversarialTrainingModel(
        brought.model, attack_on(brought)
    )
    expected = trained.predict(brought.images, verbose=0)
    with tempfile.TemporaryDirectory() as folder:
        trained.export(folder, verbose=False)
        served = tf.saved_model.load(folder)
        found = served.serve(brought.images)
    tf.nest.map_structure(
        lambda one, other: np.testing.assert_allclose(one, other, atol=1e-5),
        found,
        expected,
    )


OPERATIONS: dict[str, Callable[[ModelForm], None]] = {
    each.__name__: each
    for each in (
        adversarial_training,
        free_training,
        trades,
        hardening,
        validation_attack,
        penalties,
        own_function,
        generate,
        evaluate,
        corruptions,
        ensemble,
        detector,
        smoothed,
        projection,
        surgery,
        distillation,
        round_trip,
        export,
    )
}
