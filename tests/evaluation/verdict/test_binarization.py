import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import APGD, FAB, PGD, SPSA, HopSkipJump, Square
from keras_advdef.core.progress import Progress
from keras_advdef.evaluation._plan.planner import Planner
from keras_advdef.evaluation._plan.probe_result import probe
from keras_advdef.evaluation._run.ledger import Ledger
from keras_advdef.evaluation._verdict import binarization
from keras_advdef.evaluation._verdict.binarization import check_binarization
from keras_advdef.layers import RandomNoise
from keras_advdef.models import SqueezingAware
from tests.support.masked_nets import quantised
from tests.support.nets import small_net


@tf.custom_gradient
def _flipped(images):
    return tf.identity(images), lambda gradient: -gradient


@pytest.fixture
def check(make_request, digits):
    """Runs the check on a few digits."""

    def run(model, *, count=8, ledger=None, **changes):
        images, labels = digits.x_test[:count], digits.y_test[:count]
        settings = {"model": model, "images": images, "labels": labels, **changes}
        request = make_request(**settings)
        probed = probe(
            request.evaluated,
            images,
            labels,
            value_range=request.value_range,
            seed=request.seed,
        )
        plan = Planner(request, probed).plan()
        kept = ledger or Ledger(None, {}, Progress())
        return check_binarization(
            request, probed, plan, ledger=kept, progress=Progress()
        )

    return run


class TestCheckBinarization:
    def test_attacks_find_all_in_an_honest_net(self, check, trained_net):
        found = check(trained_net)
        assert found.passed
        assert found.detail == (
            "In 8 balls a linear classifier on the last features was made to have an "
            "adversarial image. The attacks found 8 of them (APGD-25 on margin 8); "
            "0.0 % of random images are one. Adequate attacks find 95 %."
        )

    def test_attacks_along_a_false_gradient_find_none(self, check, trained_net):
        found = check(lambda images: trained_net(_flipped(images)))
        assert found.passed is False
        assert "on the logits (the model is not a graph of layers)" in found.detail
        assert "The attacks found 0 of them; 0.0 %" in found.detail

    def test_another_backward_pass_helps(self, check, trained_net):
        assert check(quantised(trained_net)).passed

    @pytest.mark.parametrize(("norm", "epsilon"), [("l2", 0.5), ("l1", 3.0)])
    def test_norms(self, norm, epsilon, check, trained_net):
        found = check(trained_net, norm=norm, epsilon=epsilon)
        assert found.passed
        assert "The attacks found 8 of them" in found.detail

    @pytest.mark.nightly
    def test_random_net(self, check, trained_net):
        net = small_net(front=[RandomNoise(0.05, seed=0)])
        net.set_weights([*net.get_weights()[:1], *trained_net.get_weights()])
        assert check(net).passed

    def test_nothing_can_be_planted(self, check, trained_net):
        found = check(lambda images: trained_net(tf.stop_gradient(0.0 * images)))
        assert found.passed is None
        assert found.detail.startswith("Not run: a perturbation could be planted for 0")

    def test_own_attacks_may_be_weak_on_purpose(self, check, trained_net):
        found = check(trained_net, attacks=[PGD(0.1, steps=1)])
        assert found.passed is None
        assert found.detail.startswith("Not run: the attacks are not those of a budget")

    def test_resumes_alike(self, check, trained_net, tmp_path, monkeypatch):
        kept = Ledger(tmp_path / "out", {}, Progress())
        first = check(trained_net, ledger=kept, batch_size=3)
        monkeypatch.setattr(binarization, "plant", None)
        assert check(trained_net, ledger=kept, batch_size=3) == first
        kept.close(finished=True)


class TestAttacks:
    def test_those_that_look_at_images_one_by_one(
        self, make_request, make_probe_result
    ):
        attacks = [
            APGD(0.1, steps=5),
            APGD(0.1, steps=5, loss="dlr"),
            # The same, as two classes leave one margin.
            APGD(0.1, steps=5, loss="targeted_dlr"),
            PGD(0.1, loss=SqueezingAware()),
            SPSA(0.1),
            FAB(0.1),
            HopSkipJump(0.1, norm="linf"),
            Square(0.1, queries=9),
        ]
        probed = make_probe_result()
        plan = Planner(make_request(attacks=attacks), probed).plan()
        found = binarization._attacks(plan, probed)
        expected = ["APGD-5 on cross_entropy", "APGD-5 on margin", "Square-9"]
        assert [str(attack) for attack in found] == expected
        blind = make_probe_result(no_gradient_by_identity=1.0)
        (square,) = binarization._attacks(plan, blind)
        assert str(square) == "Square-9"


@pytest.mark.parametrize(
    ("planted", "hits", "passed"),
    [
        (50, 48, True),
        # By chance, 45 or fewer are found with probability 0.10, and 42 with 0.004.
        (50, 45, True),
        (50, 42, False),
        (16, 13, True),
        (16, 12, False),
        (5, 2, False),
        (4, 0, None),
    ],
)
def test_verdict(planted, hits, passed):
    found = {
        "is_planted": np.arange(50) < planted,
        "by_chance": np.zeros(50),
        "found_by": np.where(np.arange(50) < hits, 0, -1),
    }
    check = binarization._verdict(found, "", [PGD(0.1)])
    assert check.passed is passed


def test_what_was_found_elsewhere_does_not_count():
    found = {
        "is_planted": np.arange(20) < 10,
        "by_chance": np.full(20, 0.02),
        "found_by": np.where(np.arange(20) < 10, -1, 0),
    }
    check = binarization._verdict(found, "", [PGD(0.1)])
    assert "found 0 of them" in check.detail
    assert "2.0 % of random images" in check.detail
