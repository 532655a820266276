import numpy as np
import pytest

from keras_advdef.core.cards import card_of
from keras_advdef.core.model_view import ModelView
from keras_advdef.evaluation._plan.true_gradients import TrueGradients
from keras_advdef.evaluation._verdict.evidence import Evidence
from keras_advdef.evaluation._verdict.sanity_checks import sanity_checks
from keras_advdef.evaluation.accuracy_estimate import AccuracyEstimate
from keras_advdef.evaluation.better_than_chance import better_than_chance
from keras_advdef.evaluation.check import Check
from keras_advdef.layers import RandomNoise

NAMES = [
    "better_than_chance",
    "accuracy_reaches_zero",
    "more_steps",
    "iterative_vs_one_step",
    "black_box_vs_white_box",
    "decisions_vs_white_box",
    "transfer_vs_white_box",
    "noise_vs_attack",
    "true_gradients",
    "attacks_find_planted_perturbation",
    "attack_converged",
    "smooth_loss",
    "input_gradients",
    "saturated_logits",
    "logits_not_probabilities",
    "finite_logits",
    "deterministic",
    "steady",
    "no_detector",
    "naive_vs_adaptive",
]
ATTACKS = [
    "fgsm",
    "iterative",
    "more-steps",
    "temperature",
    "noise",
    "black-box",
    "decision",
    "transfer",
]


def first(count):
    return np.arange(100) < count


def truth(false=0, unsettled=0):
    """Gradients of which some lead to nothing, and some cannot be judged."""
    kept = np.where(first(false)[:, None], 0.0, [1.0, 1.0])
    return TrueGradients(
        kept=kept, best=np.ones(100), agrees=np.ones(100), settled=~first(unsettled)
    )


# Checks that are made elsewhere, by what carries them.
CARRIED = {
    "steady": "steady",
    "planted": "attacks_find_planted_perturbation",
    "converged": "attack_converged",
    "smooth": "smooth_loss",
}


def carried(passed):
    return {
        key: Check(name=name, passed=passed, detail="What.", reason=f"no {name}")
        for key, name in CARRIED.items()
    }


@pytest.fixture
def make_evidence(make_probe_result):
    """Evidence of an honest model, with some changes."""

    def make(*, probed=None, broken=None, **changes):
        defaults = {
            "chance": better_than_chance(first(60), first(50)),
            "probed": make_probe_result(**probed or {}),
            "broken": {**dict.fromkeys(ATTACKS, first(60)), **(broken or {})},
            "attacks": {name: f"the {name} attack" for name in ATTACKS},
            "absent": {},
            "labels": np.arange(100) % 10,
            "checked": np.arange(100),
            "truth": truth(),
            **carried(passed=True),
            "naive": first(60).astype(float),
            "adaptive": first(60).astype(float),
            "at_full_range": AccuracyEstimate(0, 100),
            "rejected": None,
            "rejections": 0.0,
            "undecided": 0,
        }
        return Evidence(**{**defaults, **changes})

    return make


@pytest.fixture
def verdicts(make_evidence):
    def judge(**changes):
        checks = sanity_checks(make_evidence(**changes))
        return {check.name: check.passed for check in checks}

    return judge


# Changes that make one check fail, and no other.
FAILURES = {
    "accuracy_reaches_zero": {"at_full_range": AccuracyEstimate(11, 100)},
    "more_steps": {"broken": {"iterative": first(70)}},
    "iterative_vs_one_step": {"broken": {"fgsm": first(70)}},
    "black_box_vs_white_box": {"broken": {"black-box": first(70)}},
    "transfer_vs_white_box": {"broken": {"transfer": first(70)}},
    "noise_vs_attack": {"broken": {"noise": first(70)}},
    "decisions_vs_white_box": {"broken": {"decision": first(70)}},
    "true_gradients": {"truth": truth(false=10)},
    "input_gradients": {"probed": {"no_gradient": 0.2}},
    "saturated_logits": {"broken": {"temperature": first(70)}},
    "finite_logits": {"undecided": 1},
    "deterministic": {"probed": {"is_random": True, "spread": 0.5}},
    **{CARRIED[key]: {key: check} for key, check in carried(passed=False).items()},
    "no_detector": {"rejected": 9, "rejections": 0.8},
    "naive_vs_adaptive": {
        "naive": first(49).astype(float),
        # The naive attacker sees another model.
        "probed": {"naive": ModelView(len, bypass_defences=True)},
    },
}
# Changes that each check just tolerates.
ALLOWED = {
    # The interval of 10 % starts at 4.9 %, that of 11 % at 5.6 %.
    "accuracy_reaches_zero": {"at_full_range": AccuracyEstimate(10, 100)},
    "more_steps": {"broken": {"iterative": first(63)}},
    # With nine checks, nine images more are no proof, by chance with 2**-9.
    "noise_vs_attack": {"broken": {"noise": first(69)}},
    "true_gradients": {"truth": truth(false=7)},
    "input_gradients": {"probed": {"no_gradient": 0.1}},
    "saturated_logits": {"probed": {"saturated": 0.1}},
    "naive_vs_adaptive": {
        "naive": first(50).astype(float),
        "probed": {"naive": ModelView(len, bypass_defences=True)},
    },
}


class TestSanityChecks:
    def test_honest_model_passes_all(self, verdicts):
        assert verdicts() == dict.fromkeys(NAMES, True)

    @pytest.mark.parametrize("name", FAILURES)
    def test_fails_alone(self, name, verdicts):
        assert verdicts(**FAILURES[name]) == {**dict.fromkeys(NAMES, True), name: False}

    @pytest.mark.parametrize("name", ALLOWED)
    def test_passes_at_its_bound(self, name, verdicts):
        assert verdicts(**ALLOWED[name])[name] is True

    def test_difference_on_few_images_may_be_chance(self, verdicts):
        shares = {"naive": first(3)[:10] * 1.0, "adaptive": first(5)[:10] * 1.0}
        assert verdicts(**shares)["naive_vs_adaptive"] is True

    def test_stronger_attacks_along_true_gradients_are_no_suspicion(self, verdicts):
        naive = first(20).astype(float)
        assert verdicts(naive=naive)["naive_vs_adaptive"] is True
        found = verdicts(naive=naive, truth=truth(false=50))
        assert found["naive_vs_adaptive"] is False
        # Nothing is known of these gradients.
        assert verdicts(naive=naive, truth=None)["naive_vs_adaptive"] is False

    def test_saturation_found_by_the_probe_fails_too(self, verdicts):
        assert verdicts(probed={"saturated": 0.2})["saturated_logits"] is False

    @pytest.mark.parametrize(
        ("attack", "name", "reason"),
        [
            ("transfer", "transfer_vs_white_box", "no surrogate or reference model"),
            ("black-box", "black_box_vs_white_box", "there is no such attack for"),
            ("decision", "decisions_vs_white_box", "there is no such attack for"),
        ],
    )
    def test_attack_that_did_not_run(self, attack, name, reason, make_evidence):
        evidence = make_evidence()
        del evidence.broken[attack]
        evidence.absent["transfer"] = "no surrogate or reference model was given"
        checks = {check.name: check for check in sanity_checks(evidence)}
        assert checks[name].passed is None
        assert checks[name].detail.startswith(f"Not run: {reason}")
        assert [c.name for c in checks.values() if c.passed is None] == [name]

    def test_whole_numbers_are_named_and_are_no_mask(self, make_evidence):
        for share, passed, end in ((0.0, True, "floats."), (1.0, False, "rounded.")):
            probed = {"whole_input": "uint8", "no_gradient": share}
            checks = sanity_checks(make_evidence(probed=probed))
            (check,) = (each for each in checks if each.name == "input_gradients")
            assert check.passed == passed
            assert "The model takes uint8 images, so adversarial" in check.detail
            assert check.detail.endswith(end)
        assert check.reason.endswith("as the model rounds images to uint8")

    @pytest.mark.parametrize(
        ("total", "text"),
        [(1.0, "returns probabilities, and its"), (7.0, "scores that sum to 7, such")],
    )
    def test_a_logarithm_is_mentioned_and_is_no_mask(self, total, text, make_evidence):
        probed = {"score_total": total, "certain": 0.5}
        checks = sanity_checks(make_evidence(probed=probed))
        (check,) = (each for each in checks if each.name == "logits_not_probabilities")
        assert check.passed
        assert text in check.detail
        assert "their logarithm was attacked. For 50 % of the images" in check.detail

    def test_randomness_under_attack_is_told_apart(self, make_evidence):
        probed = {"is_random": True, "differs_under_attack": True}
        checks = sanity_checks(make_evidence(probed=probed))
        (check,) = (each for each in checks if each.name == "deterministic")
        assert check.passed is False
        assert check.detail.startswith("Five runs on clean images give the same log")

    def test_no_image_is_right_when_clean(self, verdicts):
        none = dict.fromkeys(ATTACKS, np.zeros(0, bool))
        found = verdicts(broken=none)
        assert {name for name, passed in found.items() if passed is None} == {
            *NAMES[2:8],
            "saturated_logits",
        }
        assert False not in found.values()

    def test_declared_randomness_passes(self, make_evidence):
        cards = {"RandomNoise": card_of(RandomNoise)}
        probed = {"is_random": True, "spread": 0.5, "cards": cards}
        checks = sanity_checks(make_evidence(probed=probed))
        (check,) = (each for each in checks if each.name == "deterministic")
        assert check.passed
        assert "differ by up to 0.5, so" in check.detail
        assert check.detail.endswith("The randomness comes from RandomNoise.")

    def test_other_randomness_may_be_augmentation(self, make_evidence):
        probed = {"is_random": True, "spread": 0.5}
        checks = sanity_checks(make_evidence(probed=probed))
        (check,) = (each for each in checks if each.name == "deterministic")
        assert not check.passed
        assert "export it with training=False, as `models.export_m" in check.detail

    def test_details_name_attacks_and_layers(self, make_evidence):
        noise = RandomNoise(0.1, name="fog")
        probed = {
            "no_gradient": 1.0,
            "no_gradient_by_identity": 0.5,
            "bpda_layers": (noise,),
            "naive": ModelView(len, bypass_defences=True),
        }
        checks = sanity_checks(make_evidence(probed=probed))
        details = {check.name: check.detail for check in checks}
        assert details["noise_vs_attack"] == (
            "Misclassified images, of 100: 60 under the noise attack; 60 under the "
            "more-steps attack."
        )
        assert details["input_gradients"] == (
            "100 % of the images have no input gradient; with the identity as the "
            "backward pass of fog (BPDA), 50 %; only score- and decision-based attacks "
            "can be used."
        )
        assert details["naive_vs_adaptive"].startswith("Accuracy is 40.0 % under the n")
        assert "without this package's defences" in details["naive_vs_adaptive"]

    def test_every_check_can_say_why_it_failed(self, make_evidence):
        reasons = {check.reason for check in sanity_checks(make_evidence())}
        assert len(reasons) == len(NAMES)
