import numpy as np
import pytest

from keras_advdef.attacks import FGSM, PGD, HopSkipJump, Square, Transfer
from keras_advdef.core.cards import card_of
from keras_advdef.core.model_view import ModelView
from keras_advdef.evaluation._plan.distilled_surrogate import DistilledSurrogate
from keras_advdef.evaluation._plan.eight_bit import OnEightBit
from keras_advdef.evaluation._plan.planner import Planner
from keras_advdef.evaluation._plan.without_class import WithoutClass
from keras_advdef.layers import (
    BitDepthReduction,
    MedianSmoothing,
    RandomNoise,
    RandomResizePad,
    StochasticActivationPruning,
)
from keras_advdef.models import (
    AveragingEnsemble,
    DefenseGAN,
    FeatureSqueezingDetector,
)
from keras_advdef.training import DistillationTrainer
from tests.support.generators import small_generator
from tests.support.nets import small_net

AUTO = [
    "APGD-100 on cross_entropy",
    "APGD-100 on TargetedDLR",
    "FAB-100",
    "Square-5000",
]


@pytest.fixture
def make_plan(make_request, make_probe_result):
    def make(probed=None, **changes):
        return Planner(
            make_request(**changes), make_probe_result(**probed or {})
        ).plan()

    return make


def labels(plan):
    return [stage.label for stage in plan.adaptive]


def cards(*layers):
    return {layer.__name__: card_of(layer) for layer in layers}


def random(**changes):
    return {"is_random": True, "spread": 1.0, **changes}


MASKED = {"no_gradient": 1.0, "no_gradient_by_identity": 1.0}
BPDA = {
    "no_gradient": 1.0,
    "bpda_layers": (BitDepthReduction,),
    "adaptive": ModelView(len, bpda_layers=(BitDepthReduction,)),
}


class TestBudgets:
    @pytest.mark.parametrize(
        ("budget", "norm", "expected"),
        [
            ("quick", "linf", ["APGD-25 on dlr"]),
            ("standard", "linf", AUTO),
            ("standard", "l2", AUTO),
            (
                "full",
                "linf",
                [*AUTO, "PGD-100 x 5", "PGD-100", "DeepFool", "HopSkipJump"],
            ),
            (
                "full",
                "l2",
                [*AUTO, "PGD-100 x 5", "CarliniWagner", "DeepFool", "HopSkipJump"],
            ),
            ("quick", "l1", ["APGD-25 on dlr"]),
            (
                "full",
                "l1",
                [
                    "APGD-100 on cross_entropy x 5",
                    "APGD-100 on TargetedDLR x 5",
                    "FAB-100",
                    "Square-5000",
                    "PGD-100 x 5",
                    "PGD-100",
                    "HopSkipJump",
                ],
            ),
        ],
    )
    def test_deterministic_model(self, budget, norm, expected, make_plan):
        plan = make_plan(budget=budget, norm=norm)
        assert labels(plan) == expected
        skipped = ["transfer"] if budget == "full" else []
        assert [each.attack for each in plan.skipped] == skipped
        assert all(stage.stop_early for stage in plan.adaptive)

    @pytest.mark.parametrize(
        ("budget", "expected"),
        [
            ("quick", ["APGD-25 on dlr, EOT 4, then 20", "Square-1000"]),
            (
                "standard",
                [
                    "APGD-100 on cross_entropy, EOT 4, then 20",
                    "APGD-100 on dlr, EOT 4, then 20",
                    "Square-1000",
                ],
            ),
            (
                "full",
                [
                    "APGD-100 on cross_entropy, EOT 4, then 20",
                    "APGD-100 on dlr, EOT 4, then 20",
                    "Square-5000",
                    "PGD-100 x 5, EOT 4, then 20",
                    "PGD-100, EOT 4, then 20",
                    "DeepFool, EOT 20",
                    "HopSkipJump",
                ],
            ),
        ],
    )
    def test_random_model(self, budget, expected, make_plan):
        plan = make_plan(random(), budget=budget)
        assert labels(plan) == expected
        assert not any(stage.stop_early for stage in plan.adaptive)

    def test_settings_reach_every_attack(self, make_plan):
        plan = make_plan(
            budget="full",
            norm="l2",
            value_range=(0, 255),
            epsilon=20.0,
            precision="bfloat16",
        )
        for stage in plan.stages:
            assert stage.attack.norm == "l2"
            assert stage.attack.value_range == (0, 255)
            assert stage.attack.epsilon in (20.0, None)
        keys = [stage.key for stage in plan.stages]
        assert len({*keys}) == len(keys)
        exact = {
            stage.key for stage in plan.stages if stage.attack.precision == "float32"
        }
        assert "check-noise" in exact
        assert "naive" not in exact

    @pytest.mark.parametrize(("name", "passes"), [("quick", 4000), ("full", 100_000)])
    def test_costly_attacks_are_left_out(self, name, passes, make_plan):
        own = [PGD(0.1, steps=passes - 1), PGD(0.1, steps=passes)]
        plan = make_plan(budget=name, attacks=own)
        assert labels(plan) == [f"PGD-{passes - 1}"]
        (skipped,) = plan.skipped
        assert skipped.attack == f"PGD-{passes}"
        assert skipped.reason.startswith(f"{passes + 1} passes per image, but this ")

    def test_own_attacks_replace_the_budget_s(self, make_plan):
        own = [FGSM(0.1), PGD(0.1, steps=3)]
        probed = random(cards=cards(RandomNoise), **MASKED)
        plan = make_plan(probed, attacks=own, budget="full")
        assert [stage.attack for stage in plan.adaptive] == own
        assert plan.checks
        assert make_plan(attacks=[]).adaptive == ()


class TestNaive:
    @pytest.mark.parametrize(
        ("norm", "label"),
        [
            ("linf", "PGD-20"),
            ("l2", "APGD-20 on cross_entropy"),
            ("l1", "APGD-20 on cross_entropy"),
        ],
    )
    def test_label(self, norm, label, make_plan):
        assert make_plan(norm=norm).naive.label == label
        unaware = {"naive": ModelView(len, bypass_defences=True)}
        plan = make_plan(unaware, norm=norm)
        assert plan.naive.label == f"{label}, without the defences"

    def test_knows_nothing_of_noise_and_masks(self, make_probe_result, make_request):
        probed = make_probe_result(**random(adaptive=ModelView(len, temperature=5.0)))
        naive = Planner(make_request(), probed).plan().naive
        assert naive.attack.eot_samples == 1
        assert naive.view is probed.naive


class TestChecks:
    def test_names(self, make_plan):
        names = ["fgsm", "iterative", "more-steps", "temperature", "noise", "black-box"]
        assert list(make_plan(norm="l1").checks) == names
        plan = make_plan()
        assert list(plan.checks) == names
        assert {stage.role for stage in plan.checks.values()} == {"check"}
        assert plan.checks["noise"].label == "20 random images in the ball"
        assert plan.checks["black-box"].label == "Square-200"

    def test_run_without_temperature_but_one(self, make_plan):
        view = ModelView(len, temperature=7.0)
        checks = make_plan({"adaptive": view, "gap": 7.0}).checks
        for name, stage in checks.items():
            expected = 7.0 if name == "temperature" else 1.0
            assert stage.view.temperature == expected
            assert stage.view.has_gradient
        assert checks["temperature"].label == "PGD-20, logits divided by 7"

    def test_temperature_never_sharpens(self, make_plan):
        checks = make_plan({"gap": 0.3}).checks
        assert checks["temperature"].view.temperature == 1.0

    def test_transfer_needs_another_model(self, make_plan):
        first, second = (lambda images: images for _ in range(2))
        assert "transfer" not in make_plan().checks
        plan = make_plan(reference=first)
        assert plan.checks["transfer"].attack.surrogate is first
        assert plan.checks["transfer"].label == "transferred PGD-50"
        plan = make_plan(reference=first, surrogate=second)
        assert plan.checks["transfer"].attack.surrogate is second
        assert not plan.checks["transfer"].lets_leave


class TestFindings:
    @pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
    def test_without_gradient(self, norm, make_plan):
        plan = make_plan(MASKED, budget="standard", norm=norm)
        assert [type(stage.attack) for stage in plan.adaptive] == [Square, HopSkipJump]
        assert {stage.attack.norm for stage in plan.adaptive} == {norm}
        (skipped,) = plan.skipped
        assert skipped.attack == "gradient attacks"
        assert skipped.reason == "the model has no input gradient"

    def test_identity_behind_what_stops_gradients(self, make_plan):
        plan = make_plan(BPDA)
        expected = ["APGD-25 on dlr, BPDA", "Square-1000", "HopSkipJump"]
        assert labels(plan) == expected
        assert plan.skipped == ()

    def test_temperature_is_told(self, make_plan):
        plan = make_plan(
            {"adaptive": ModelView(len, temperature=12.345)}, budget="standard"
        )
        told = [", logits divided by 12.3" in label for label in labels(plan)]
        assert told == [True, True, True, False]

    def test_surrogate_in_the_full_budget(self, make_plan):
        plan = make_plan(budget="full", surrogate=lambda images: images)
        assert isinstance(plan.adaptive[-1].attack, Transfer)
        assert plan.adaptive[-1].label == "transferred PGD-100"
        assert plan.skipped == ()


class TestCards:
    def test_deterministic_layer_asks_for_pgd(self, make_plan):
        plan = make_plan({"cards": cards(BitDepthReduction)})
        assert labels(plan) == ["APGD-25 on dlr", "PGD-40"]

    def test_draws_of_the_cards(self, make_plan):
        asked = [
            "APGD-25 on dlr, EOT 4, then 20",
            "PGD-40, EOT 4, then 30",
            "APGD-25 on dlr, EOT 4, then 30",
            "Square-1000",
        ]
        defended = cards(RandomNoise, RandomResizePad)
        assert labels(make_plan(random(cards=defended))) == asked
        # The budget's own 20 draws are enough for this one.
        plan = make_plan(random(cards=cards(RandomNoise)))
        assert labels(plan) == [asked[0], "PGD-40, EOT 4, then 20", asked[3]]

    def test_past_pruning(self, make_plan):
        net = small_net(front=[StochasticActivationPruning()])
        probed = random(
            cards=cards(StochasticActivationPruning), adaptive=ModelView(net)
        )
        plan = make_plan(probed)
        past = [stage for stage in plan.adaptive if stage.view.bpda_layers]
        assert [stage.label for stage in past] == ["PGD-40, EOT 4, then 20, BPDA"]
        assert past[0].view.bpda_layers == (net.layers[0],)
        masked = {**probed, **MASKED}
        assert not any(stage.view.bpda_layers for stage in make_plan(masked).adaptive)

    @pytest.mark.parametrize(
        ("kind", "inside", "asked"),
        [
            (
                FeatureSqueezingDetector,
                lambda: (small_net(), [MedianSmoothing(2)]),
                ["PGD-40", "PGD-100 on SqueezingAware"],
            ),
            (
                AveragingEnsemble,
                lambda: ([small_net(), small_net()],),
                ["PGD-200", "PGD-200 on MemberDLR"],
            ),
        ],
        ids=["squeezing", "ensemble"],
    )
    def test_losses_that_know_of_the_defence(self, kind, inside, asked, make_plan):
        view = ModelView(kind(*inside()))
        plan = make_plan({"cards": cards(kind), "adaptive": view})
        assert labels(plan) == ["APGD-25 on dlr", *asked]
        assert plan.missing == ()

    def test_projections_are_attacked_through_and_from_behind(self, make_plan):
        model = DefenseGAN(small_generator(), small_net())
        probed = random(cards=cards(DefenseGAN), adaptive=ModelView(model))
        plan = make_plan(probed)
        assert labels(plan) == [
            "APGD-25 on dlr, EOT 4, then 20",
            "LatentSpaceAttack-100 x 4, EOT 20",
            "Square-1000",
            "PGD-40, EOT 4, then 20, BPDA",
        ]
        assert plan.adaptive[-1].view.bpda_layers == (model.projection,)
        assert plan.skipped == ()

    def test_what_cannot_be_reached_is_told(self, make_plan):
        plan = make_plan({"cards": cards(DefenseGAN)})
        names = ["LatentSpaceAttack", "BPDA"]
        assert [each.attack for each in plan.skipped] == names
        assert list(plan.missing) == names

    def test_carlini_and_wagner_run_once_in_the_full_budget(self, make_plan):
        defended = {"cards": cards(DistillationTrainer)}
        plan = make_plan(defended, budget="full", norm="l2")
        assert labels(plan).count("CarliniWagner") == 1
        assert labels(plan)[len(AUTO)] == "CarliniWagner"

    def test_costly_attacks_of_a_card_are_missing(self, make_plan):
        plan = make_plan({"cards": cards(DistillationTrainer)}, norm="l2")
        auto, costly = plan.skipped
        assert auto.attack == "AutoAttack"
        assert costly.attack == "CarliniWagner"
        assert costly.reason == "9002 passes per image, but this budget allows 4000"
        assert plan.missing == ("AutoAttack", "CarliniWagner")

    def test_unknown_attacks_are_told(self, make_plan, made_up_card):
        card = made_up_card(attacks=("PGD", "Zoo"))
        plan = make_plan({"cards": {"Newer": card}})
        (skipped,) = plan.skipped
        assert skipped.attack == "Zoo"
        assert skipped.reason == "this version of keras_advdef does not know it"
        assert plan.missing == ("Zoo",)

    @pytest.mark.parametrize("budget", ["standard", "full"])
    def test_a_card_may_ask_for_a_transfer(self, budget, make_plan, made_up_card):
        defended = {"cards": {"Guarded": made_up_card(attacks=("transfer",))}}
        plan = make_plan(defended, budget=budget)
        assert [each.attack for each in plan.skipped] == ["transfer"]
        assert plan.missing == ("transfer",)
        plan = make_plan(defended, budget=budget, surrogate=lambda images: images)
        assert plan.missing == plan.skipped == ()
        assert labels(plan).count("transferred PGD-100") == 1


@pytest.mark.parametrize("norm", ["linf", "l1"])
def test_the_heedless_attack_is_the_naive_one_but_for_a_class(
    norm, make_request, make_probe_result
):
    planner = Planner(make_request(norm=norm, epsilon=0.2), make_probe_result())
    stage, naive = planner.heedless(), planner.plan().naive
    assert isinstance(stage.attack.loss, WithoutClass)
    own = stage.attack.replace(loss="cross_entropy")
    assert own.get_config() == naive.attack.get_config()
    assert (stage.view, stage.role) == (naive.view, "trial")
    assert stage.label == f"{naive.label}, as if there were no last class"


class TestTargeted:
    @pytest.mark.parametrize(("classes", "count"), [(3, 1), (5, 3), (100, 9)])
    def test_aims_past_the_true_class_and_the_detector_s(
        self, classes, count, make_request, make_probe_result
    ):
        planner = Planner(make_request(), make_probe_result(classes=classes))
        stages = planner.targeted()
        assert [stage.target_rank for stage in stages] == [*range(1, count + 1)]
        assert all(stage.attack.targeted for stage in stages)
        expected = f"PGD-50, targeted at class {count} by likelihood"
        assert stages[-1].label == expected
        assert stages[-1].key == f"target-{count}"


class TestOtherModels:
    """Images transferred from other models, and attacks that see decisions only."""

    @pytest.fixture
    def make_planner(self, make_request, make_probe_result):
        def make(probed=None, **changes):
            request = make_request(**changes)
            distilled = DistilledSurrogate(request, 2)
            probed = make_probe_result(**probed or {})
            return Planner(request, probed, distilled), distilled

        return make

    @pytest.mark.parametrize("budget", ["quick", "standard", "full"])
    def test_each_given_model_is_attacked_from_once(self, budget, make_planner):
        given = {"reference": abs, "surrogate": len}
        plan = make_planner(budget=budget, **given)[0].plan()
        found = [s.attack for s in plan.adaptive if isinstance(s.attack, Transfer)]
        assert {attack.surrogate for attack in found} == {abs, len}
        assert len(found) == 2
        assert plan.checks["transfer"].attack.surrogate is len

    def test_a_net_is_taught_where_none_is_given(self, make_planner):
        planner, distilled = make_planner(budget="standard")
        stage = planner.plan().checks["transfer"]
        assert distilled.made(stage.attack)
        assert stage.label.endswith("from a net taught by the model's decisions")

    def test_a_quick_budget_teaches_none_and_says_so(self, make_planner):
        plan = make_planner()[0].plan()
        assert not {"transfer", "decision"} & plan.checks.keys()
        assert plan.absent == {
            "decision": "it needs the standard or the full budget",
            "transfer": "no surrogate or reference model was given",
        }

    def test_few_images_are_attacked_by_decisions(self, make_planner):
        stage = make_planner(budget="standard")[0].plan().checks["decision"]
        assert isinstance(stage.attack, HopSkipJump)
        assert stage.images == 50

    def test_closing_rounds(self, make_planner):
        planner, distilled = make_planner()
        first, later = (planner.closing(number, ["more_steps"]) for number in (0, 1))
        assert {stage.role for stage in (*first, *later)} == {"closing"}
        assert distilled.made(first[0].attack)
        # Stages of other names draw anew.
        kinds = [(stage.key, type(stage.attack)) for stage in later]
        assert kinds == [("closing-1-0", Square), ("closing-1-1", HopSkipJump)]

    def test_closing_attacks_on_8_bit_images(self, make_planner):
        images = np.full((2, 2, 2, 1), 51 / 255)
        for given, is_rounded in ((images, True), (images + 0.001, False)):
            planner, _ = make_planner(images=given, labels=[0, 1])
            for failed in (["finite_logits"], ["steady"]):
                stages = planner.closing(1, failed)
                expected = is_rounded and failed == ["finite_logits"]
                views = {isinstance(each.view.model, OnEightBit) for each in stages}
                assert views == {expected}
                kinds = [type(each.attack) for each in stages]
                assert kinds == [PGD] * expected + [Square, HopSkipJump]

    def test_images_alone_where_the_batch_matters(self, make_planner):
        planner, _ = make_planner()
        for number, failed, expected in (
            (0, "steady", 1),
            (1, "steady", 0),
            (0, "settled", 0),
        ):
            alone = [s for s in planner.closing(number, [failed]) if s.alone]
            assert len(alone) == expected
        (stage, *_) = [s for s in planner.closing(0, ["steady"]) if s.alone]
        assert stage.label == "PGD-50, each image alone"
