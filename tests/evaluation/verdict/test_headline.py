import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import APGD, FAB, FGSM, PGD, Square, Transfer
from keras_advdef.attacks.losses import TargetedDLR
from keras_advdef.core.model_view import ModelView
from keras_advdef.evaluation._plan.plan import Plan, Skipped
from keras_advdef.evaluation._plan.stage import Stage
from keras_advdef.evaluation._verdict.headline import (
    attacks_text,
    headline,
    is_robust_accuracy,
    listed,
)
from keras_advdef.evaluation._verdict.judgements import Judgements
from keras_advdef.evaluation.accuracy_estimate import AccuracyEstimate
from keras_advdef.evaluation.better_than_chance import better_than_chance
from keras_advdef.evaluation.check import Check

DRAWN = Judgements(np.arange(2)[:, None] < [0, 1, 2])
AUTO = [APGD(), APGD(loss=TargetedDLR(9)), FAB(), Square()]


def plan_of(*adaptive, checks=(), skipped=(), missing=()):
    def stage(attack):
        label = str(attack)
        return Stage(
            key=label, label=label, role="adaptive", attack=attack, view=ModelView(len)
        )

    return Plan(
        naive=stage(PGD(0.1)),
        checks={str(attack): stage(attack) for attack in checks},
        adaptive=tuple(map(stage, adaptive)),
        skipped=tuple(Skipped(attack=name, reason="so") for name in skipped),
        missing=missing,
    )


def check(*, passed, reason="why"):
    return Check(name="any", passed=passed, detail="What.", reason=reason)


class TestAttacksText:
    @pytest.mark.parametrize(
        ("budget", "adaptive", "checks", "text"),
        [
            ("quick", [APGD()], [FGSM(), Square()], "PGD, FGSM, Square and APGD"),
            ("standard", AUTO, [FGSM()], "AutoAttack, PGD and FGSM"),
            (
                "standard",
                [APGD(eot_samples=20), APGD(loss="dlr", eot_samples=20)],
                [],
                "AutoAttack (rand) and PGD",
            ),
            ("standard", [Square()], [], "PGD and Square"),
            ("full", [*AUTO, Transfer(len, FGSM())], [], "AutoAttack, PGD and transf"),
        ],
    )
    def test_names(self, budget, adaptive, checks, text, make_request):
        plan = plan_of(*adaptive, checks=checks)
        found = attacks_text(make_request(budget=budget), plan)
        assert found.startswith(text)

    def test_own_attacks_are_no_auto_attack(self, make_request):
        request = make_request(budget="full", attacks=[APGD(0.1)])
        assert attacks_text(request, plan_of(*AUTO)) == "PGD, APGD, FAB and Square"


class TestIsRobustAccuracy:
    @pytest.mark.parametrize("budget", ["standard", "full"])
    def test_thorough_and_unsuspicious(self, budget, make_request):
        plan = plan_of(*AUTO, skipped=["transfer"])
        # No check failed, so nothing had to settle.
        settled = Check(name="settled", passed=None, detail="What.", reason="why")
        checks = [check(passed=True), settled]
        assert is_robust_accuracy(make_request(budget=budget), plan, checks)

    @pytest.mark.parametrize(
        ("changes", "skipped", "passed"),
        [
            ({"budget": "quick"}, [], True),
            ({"budget": "full", "attacks": AUTO}, [], True),
            ({"budget": "full"}, ["gradient attacks"], True),
            ({"budget": "full"}, ["transfer", "PGD-100 x 5"], True),
            ({"budget": "full"}, [], False),
            # A check that did not run, or could not fail.
            ({"budget": "full"}, [], None),
        ],
    )
    def test_not_earned(self, changes, skipped, passed, make_request):
        plan, request = plan_of(*AUTO, skipped=skipped), make_request(**changes)
        verdicts = [check(passed=True), check(passed=passed)]
        assert not is_robust_accuracy(request, plan, verdicts)

    @pytest.mark.parametrize("skipped", [[], ["transfer"]])
    def test_not_without_an_attack_of_a_card(self, skipped, make_request):
        plan = plan_of(*AUTO, skipped=skipped, missing=("CarliniWagner",))
        assert not is_robust_accuracy(make_request(budget="full"), plan, [])


def sentence(request, *checks, judged=None, **more):
    estimates = {
        "clean": AccuracyEstimate(90, 100),
        "adaptive": AccuracyEstimate(50, 100),
    }
    return headline(request, plan_of(*AUTO), checks, judged=judged, **estimates, **more)


class TestHeadline:
    def test_robust_accuracy(self, make_request):
        request = make_request(budget="standard", epsilon=8 / 255)
        assert sentence(request, check(passed=True)) == (
            "Robust accuracy 50.0 % [39.8, 60.2] under AutoAttack and PGD, linf, "
            "epsilon 0.03137 (8/255), on 4 images; clean accuracy 90.0 % [82.4, 95.1]."
        )

    def test_certified_accuracy_is_the_lower_end(self, make_request):
        least = AccuracyEstimate(42, 100)
        request = make_request(budget="standard", epsilon=8 / 255)
        assert sentence(request, check(passed=True), certified=least).startswith(
            "Robust accuracy at least 42.0 % (certified), at most 50.0 % [39.8, 60.2] "
            "(AutoAttack and PGD), linf, "
        )
        assert sentence(make_request(), certified=least).startswith(
            "Accuracy under PGD, APGD, FAB and Square: 50.0 % [39.8, 60.2], and at "
            "least 42.0 % (certified), linf, "
        )

    def test_random_models(self, make_request):
        request = make_request(budget="standard", epsilon=8 / 255)
        assert sentence(request, check(passed=True), judged=DRAWN).startswith(
            f"Robust accuracy 50.0 % [39.8, 60.2], {DRAWN}, under AutoAttack and PGD, "
        )
        assert sentence(make_request(), judged=DRAWN).startswith(
            "Accuracy under PGD, APGD, FAB and Square: 50.0 % [39.8, 60.2], "
            f"{DRAWN}, linf, "
        )

    def test_quick_budget_claims_less(self, make_request):
        assert sentence(make_request()).startswith(
            "Accuracy under PGD, APGD, FAB and Square: 50.0 % [39.8, 60.2], linf, "
        )

    def test_failed_checks_come_first(self, make_request):
        checks = [
            check(passed=False, reason="one thing"),
            check(passed=None, reason="nothing"),
            check(passed=False, reason="another"),
        ]
        text = sentence(make_request(budget="full"), *checks)
        start = "Gradient masking suspected: one thing; another. Accuracy under AutoA"
        assert text.startswith(start)

    def test_chance_is_named_first_and_nothing_is_said_of_masking(self, make_request):
        chance = better_than_chance(np.arange(100) % 7, np.arange(100) % 10)
        text = sentence(
            make_request(budget="full"), chance, check(passed=False, reason="one thing")
        )
        assert text.startswith(
            "The model is at chance: wrong `value_range`, wrong labels, or not "
            "trained? Accuracy under AutoAttack and PGD: 50.0 % "
        )
        assert "masking" not in text

    def test_images_left_out(self, make_request):
        images, labels = [[[[0.5]], [[0.5]]]] * 203, [0] * 203
        text = sentence(make_request(images=images, labels=labels))
        assert "on the first 200 of 203 images; clean" in text
        batches = tf.data.Dataset.from_tensors((images, labels)).repeat()
        text = sentence(make_request(images=batches, labels=None))
        assert "on the first 200 images of the data set; clean" in text


def test_listed():
    assert [listed("a"), listed("ab"), listed("abc")] == ["a", "a and b", "a, b and c"]
