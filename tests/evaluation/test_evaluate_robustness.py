"""Planted masking is named, and honest nets raise no alarm."""

import re
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import PGD
from keras_advdef.core.progress import Progress
from keras_advdef.evaluation import evaluate_robustness
from keras_advdef.training import DistillationTrainer
from tests.support import defended_nets, masked_nets
from tests.support.nets import linear_net, small_net

EPSILON = 0.1
# Random models take many draws.
COUNT, FEW = 60, 16


@pytest.fixture(scope="module")
def undefended(digits):
    """A net that every attack breaks; the masks hide that."""
    return defended_nets.fitted(small_net, digits)


@pytest.fixture(scope="module")
def evaluate(digits):
    def run(model, *, count=COUNT, **arguments):
        settings = {"epsilon": EPSILON, "budget": "quick", "verbose": 0, **arguments}
        images, labels = digits.x_test[:count], digits.y_test[:count]
        return evaluate_robustness(model, images, labels, **settings)

    return run


@pytest.fixture(scope="module")
def of_undefended(undefended, evaluate):
    """The finished evaluation of the net behind the masks."""
    return evaluate(undefended)


@pytest.fixture(scope="module")
def noisy_run(digits, evaluate):
    """The evaluation of a random model, and its variables before and after."""
    model = defended_nets.noisy(digits)
    before = [np.array(variable) for variable in model.variables]
    report = evaluate(model, count=FEW, curve=[])
    after = [np.array(variable) for variable in model.variables]
    return types.SimpleNamespace(report=report, before=before, after=after)


def failed(report):
    return {check["name"] for check in report.checks if check["passed"] is False}


# The check that must fail for each mask, and a limit on the adaptive accuracy.
MASKS = {
    "saturated": ("saturated_logits", 0.45),
    "quantised": ("input_gradients", 0.35),
    "noisy": ("deterministic", 0.5),
    "stopped": ("input_gradients", 0.3),
    "steep": ("saturated_logits", 0.45),
    "dropping": ("deterministic", 0.5),
    "detecting": ("no_detector", 0.35),
}


def gate(kinds, *, nightly):
    """Parameters of which some, each like another one, are left to the nightly run."""
    marks = {kind: pytest.mark.nightly if kind in nightly else () for kind in kinds}
    return [pytest.param(kind, marks=marks[kind]) for kind in kinds]


@pytest.mark.slow
# The warning about the probabilities of "steep" is expected.
@pytest.mark.filterwarnings("ignore:.*returns probabilities")
# Two saturate and two have no gradient; for randomness see test_evaluation.py, for
# detectors run/test_rejection.py.
@pytest.mark.parametrize(
    "mask", gate(MASKS, nightly=["detecting", "dropping", "noisy", "steep", "stopped"])
)
def test_masks_are_named(mask, undefended, evaluate):
    name, most = MASKS[mask]
    # It takes more images to tell a class for attacked ones from others.
    count = 100 if mask == "detecting" else COUNT
    model = getattr(masked_nets, mask)(undefended)
    report = evaluate(model, count=count, curve=[])
    assert report.masking_suspected
    assert report.headline.startswith("Gradient masking suspected: ")
    assert "obust accuracy" not in report.headline
    assert {name, "naive_vs_adaptive"} <= failed(report)
    assert report.adaptive["accuracy"] < most
    assert report.naive["accuracy"] > report.adaptive["accuracy"] + 0.1


def _branches():
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(8, 3, padding="same")(inputs)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    branch = keras.layers.Conv2D(8, 3, padding="same")(x)
    x = keras.layers.Flatten()(keras.layers.Add()([x, branch]))
    return keras.Model(inputs, keras.layers.Dense(3)(x))


def _dense():
    layers = [keras.layers.Flatten(), keras.layers.Dense(32, activation="relu")]
    return keras.Sequential([keras.Input((8, 8, 1)), *layers, keras.layers.Dense(3)])


def _softmax(digits):
    loss = "sparse_categorical_crossentropy"
    return defended_nets.fitted(lambda: small_net(head="softmax"), digits, loss=loss)


HONEST = {
    "softmax": _softmax,
    "branches": lambda digits: defended_nets.fitted(_branches, digits),
    "dense": lambda digits: defended_nets.fitted(_dense, digits),
    "robust": lambda digits: defended_nets.adversarially_trained(digits, 0.05),
}


def check_honest(report):
    assert failed(report) == set()
    assert not report.masking_suspected
    assert report.headline.startswith("Accuracy under ")
    assert report.adaptive["accuracy"] <= report.naive["accuracy"]


@pytest.mark.slow
# The undefended net of the next test is honest as well, and test_model_forms.py
# evaluates a softmax head.
@pytest.mark.parametrize("kind", gate(HONEST, nightly=["dense", "branches", "softmax"]))
def test_honest_nets_raise_no_alarm(kind, digits, evaluate):
    check_honest(evaluate(HONEST[kind](digits), curve=[]))


def test_undefended_net_raises_no_alarm(of_undefended):
    check_honest(of_undefended)


DEFENDED = {
    "distilled-20": lambda digits: defended_nets.distilled(digits, 20.0),
    "distilled-100": lambda digits: defended_nets.distilled(digits, 100.0),
    "bit-depth": defended_nets.bit_depth,
    "resize-pad": defended_nets.resize_pad,
}


@pytest.mark.slow
# Distilled nets saturate as a mask does, and noise is as random as another size.
@pytest.mark.parametrize(
    "kind", gate(DEFENDED, nightly=["resize-pad", "distilled-20", "distilled-100"])
)
def test_broken_defences_get_both_numbers(kind, digits, evaluate):
    count = FEW if kind == "resize-pad" else COUNT
    report = evaluate(DEFENDED[kind](digits), count=count, curve=[])
    check_broken(report)
    if kind.startswith("distilled"):
        assert "naive_vs_adaptive" in failed(report)
        assert report.naive["accuracy"] > report.adaptive["accuracy"] + 0.1
    else:
        check_unaware(report)


def test_noise_gets_both_numbers(noisy_run):
    check_broken(noisy_run.report)
    check_unaware(noisy_run.report)


def check_broken(report):
    assert report.clean["accuracy"] > 0.9
    assert report.adaptive["accuracy"] <= report.naive["accuracy"]
    assert report.adaptive["accuracy"] < 0.6


def check_unaware(report):
    assert "without the defences" in report.naive["attacks"][0]
    assert report.data["defences"]


class TestEvaluateRobustness:
    def test_worst_case_is_that_of_all_attacks(self, of_undefended):
        report = of_undefended
        after = [each["accuracy_after"] for each in report.data["attacks"]]
        assert after == sorted(after, reverse=True)
        assert report.adaptive["accuracy"] == pytest.approx(after[-1])
        assert report.naive["accuracy"] == pytest.approx(after[0])

    # That equal runs are equal but for `run`, also of random models, is in
    # test_evaluation.py: one of them was stopped meanwhile.

    def test_changes_no_variable(self, noisy_run):
        for old, new in zip(noisy_run.before, noisy_run.after, strict=True):
            np.testing.assert_array_equal(old, new)

    def test_random_models_are_evaluated_on_fresh_draws(self, noisy_run):
        adaptive = noisy_run.report.adaptive
        drawn = adaptive["judgements"]
        assert len(drawn["evaluations"]) == drawn["draws"] == 10
        assert drawn["mean"]["accuracy"] == adaptive["accuracy"]
        assert adaptive["accuracy"] == pytest.approx(np.mean(drawn["evaluations"]))
        assert drawn["worst"]["accuracy"] <= min(drawn["evaluations"])
        assert drawn["worst"]["accuracy"] <= drawn["majority"]["accuracy"]
        assert "the mean of 10 fresh draws of the model" in noisy_run.report.headline

    def test_curve_meets_the_headline(self, noisy_run):
        report = noisy_run.report
        points = {point["epsilon"]: point for point in report.data["curve"]}
        assert points[0.0]["accuracy"] == report.clean["accuracy"]
        for name in ("accuracy", "interval", "count"):
            assert points[EPSILON][name] == report.adaptive[name]

    def test_value_range(self, undefended, of_undefended, digits):
        inside = keras.layers.Rescaling(1 / 255)
        wide = keras.Sequential([keras.Input((8, 8, 1)), inside, undefended])
        report = evaluate_robustness(
            wide,
            255 * digits.x_test[:COUNT],
            digits.y_test[:COUNT],
            epsilon=255 * EPSILON,
            budget="quick",
            value_range=(0, 255),
            curve=[],
            verbose=0,
        )
        for kind in ("naive", "adaptive"):
            found, expected = (
                getattr(each, kind)["accuracy"] for each in (report, of_undefended)
            )
            assert abs(found - expected) <= 0.02
        assert "25.5 (0.1000 of the range)" in report.headline

    @pytest.mark.parametrize("norm", gate(["l2", "l1"], nightly=["l1"]))
    def test_other_norms(self, norm, undefended, evaluate):
        epsilon = {"l2": 0.6, "l1": 1.5}[norm]
        report = evaluate(undefended, norm=norm, epsilon=epsilon, curve=[])
        assert 0.0 < report.adaptive["accuracy"] < 0.95
        assert failed(report) == set()

    def test_batch_of_one_odd_size_and_last_partial_batch(self, evaluate):
        net = keras.Sequential(
            [keras.Input((33, 17, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
        )
        generator = np.random.default_rng(0)
        images = generator.uniform(size=(5, 33, 17, 1)).astype("float32")
        labels = net.predict(images, verbose=0).argmax(axis=1)
        arguments = {"epsilon": 0.01, "attacks": [], "curve": [], "verbose": 0}
        one = evaluate_robustness(net, images[:1], labels[:1], **arguments)
        several = evaluate_robustness(net, images, labels, batch_size=3, **arguments)
        assert one.clean["count"] == 1
        assert several.clean["accuracy"] == 1.0

    # What the full budget plans is in plan/test_planner.py.
    @pytest.mark.nightly
    @pytest.mark.filterwarnings("ignore:The targeted DLR needs 4 classes")
    def test_full_budget_uses_the_surrogate(self, undefended, digits):
        report = evaluate_robustness(
            undefended,
            digits.x_test[:4],
            digits.y_test[:4],
            epsilon=0.05,
            budget="full",
            surrogate=undefended,
            curve=[],
            verbose=0,
        )
        names = [each["name"] for each in report.data["attacks"]]
        for expected in ("PGD-100 x 5", "DeepFool", "HopSkipJump"):
            assert expected in names
        assert "transferred PGD-100" in names
        assert report.data["skipped"] == []
        assert report.headline.startswith("Robust accuracy ")

    def test_reference_measures_the_costs(self, undefended, digits, evaluate):
        model = defended_nets.bit_depth(digits)
        report = evaluate(model, attacks=[], curve=[0.02], reference=undefended)
        duties = report.data["duties"]
        assert duties["architecture"] == {"layers_added": 1, "parameters_added": 0}
        low, high = duties["clean_accuracy_change"]["interval"]
        assert low <= duties["clean_accuracy_change"]["difference"] <= high
        assert duties["small_epsilons"][0]["epsilon"] == 0.02
        assert 0.0 < duties["smallest_perturbation"]["median"] < 0.3
        assert report.data["run"]["inference"]["inference_time_ratio"] > 0.0
        verdicts = {check["name"]: check["passed"] for check in report.checks}
        assert verdicts["transfer_vs_white_box"] is not None

    def test_chance_is_named_before_masking(self, evaluate, capsys):
        # There is no gradient anywhere, which would otherwise be called masking.
        net = linear_net(np.zeros((3, 64)), [0.0, 1.0, 0.0], shape=(8, 8, 1))
        report = evaluate(net, attacks=[], curve=[], count=40, verbose=1)
        start = "he model is at chance, predicting class 1 for every image: wrong `val"
        assert report.headline.startswith(f"T{start}")
        assert report.checks[0]["name"] == "better_than_chance"
        assert {"better_than_chance", "input_gradients"} <= failed(report)
        assert not report.masking_suspected
        for text in (report.headline, report.to_markdown(), report.to_html()):
            assert "masking suspected" not in text
        printed = capsys.readouterr().out
        assert printed.index(f"t{start}") < printed.index("PGD-20: ")

    def test_says_what_it_does_and_how_many_images_it_takes(
        self, undefended, digits, capsys
    ):
        arrays = digits.x_test, digits.y_test
        report = evaluate_robustness(
            undefended,
            tf.data.Dataset.from_tensor_slices(arrays).batch(32).repeat(),
            epsilon=EPSILON,
            budget="quick",
            attacks=[PGD(EPSILON, steps=2)],
            curve=[],
        )
        printed = capsys.readouterr().out
        assert printed.startswith("Evaluating 200 of the data set's images: linf, eps")
        assert report.data["images"] == {"evaluated": 200, "given": None}
        assert "| images | 200 of unknown given |" in report.to_markdown()
        assert re.search(r"At most \d+,\d00 model passes, \d+ ", printed)
        assert "PGD-2: " in printed


# That the attack is planned is in plan/test_card_attacks.py.
@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore:The targeted DLR needs 4 classes")
def test_a_distilled_model_meets_the_attack_that_broke_distillation(
    undefended, evaluate
):
    trainer = DistillationTrainer(undefended, temperature=5.0)
    trainer.student.set_weights(undefended.get_weights())
    settings = {"epsilon": 0.05, "norm": "l2", "curve": [], "count": 4}
    report = evaluate(trainer, budget="standard", **settings)
    attacked = {attack["name"]: attack["images"] for attack in report.data["attacks"]}
    assert attacked["CarliniWagner"] > 0
    assert report.data["skipped"] == []
    assert "AutoAttack" in report.headline
    assert "CarliniWagner" in report.headline
    assert ("Robust accuracy" in report.headline) == (not failed(report))


class _Lines(Progress):
    """Records the sentences that it is told."""

    def __init__(self):
        self.lines = []

    def line(self, text):
        self.lines.append(text)


def test_a_progress_object_is_told_instead_of_the_terminal(capsys):
    net = linear_net([[0.0, 0.0], [1.0, -1.0]], [0.0, 0.0])
    images, told = np.array([[[[0.9]], [[0.2]]]]), _Lines()
    evaluate_robustness(
        net, images, [1], epsilon=0.1, attacks=[], curve=[], verbose=told
    )
    assert told.lines[0].startswith("Evaluating 1 of 1 images: linf, epsilon 0.1 ")
    assert capsys.readouterr().out == ""
