import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import FMN
from keras_advdef.core.model_view import ModelView
from keras_advdef.core.norms import norm_per_image
from keras_advdef.core.progress import Progress
from keras_advdef.evaluation._measure import smallest_perturbations as searches
from keras_advdef.evaluation._measure.smallest_perturbations import (
    SmallestPerturbations,
    find_smallest_perturbations,
    minimal_attacks,
    names_of,
)
from keras_advdef.evaluation._run.forecast import Forecast
from keras_advdef.evaluation._run.ledger import Ledger
from keras_advdef.layers import RandomNoise
from tests.support.nets import linear_net

# Class 1 where 2a - b + 0.1 is above 0.
SLOPE = np.array([2.0, -1.0])
NET = linear_net([[0.0, 0.0], SLOPE], [0.0, 0.1])
PIXELS = np.array([[0.6, 0.4], [0.5, 0.9], [0.3, 0.4], [0.2, 0.8], [0.5, 0.5]])
MARGINS = PIXELS @ SLOPE + 0.1
LABELS = (MARGINS > 0).astype(int)
IMAGES = PIXELS.reshape(5, 2, 1, 1).astype("float32")
DUAL = {"linf": 1, "l2": 2, "l1": np.inf}


@pytest.fixture
def find(make_request, make_probe_result, make_judge):
    """Searches from some of the images of a linear net, with some changes."""

    def run(model=NET, *, rows=(0, 1, 2, 4), probed=None, ledger=None, **changes):
        common = {"images": IMAGES, "labels": LABELS, "batch_size": 3}
        request = make_request(model=model, **{**common, **changes})
        return find_smallest_perturbations(
            request,
            make_probe_result(model, classes=2, **(probed or {})),
            make_judge(request),
            labels=np.asarray(request.labels),
            rows=np.array(rows, int),
            ledger=ledger or Ledger(None, {}, Progress()),
            progress=Progress(),
            forecast=Forecast(),
        )

    return run


def blind(model):
    view = ModelView(model, has_gradient=False)
    return {"no_gradient": 1.0, "no_gradient_by_identity": 1.0, "adaptive": view}


class TestFindSmallestPerturbations:
    @pytest.mark.parametrize("norm", DUAL)
    def test_distance_to_a_plane(self, norm, find):
        smallest = find(norm=norm)
        distances = np.abs(MARGINS) / np.linalg.norm(SLOPE, DUAL[norm])
        expected = distances[[0, 1, 2, 4]]
        assert (smallest.norms >= 0.999 * expected).all()
        np.testing.assert_allclose(smallest.norms, expected, rtol=0.02)
        assert smallest.rows.tolist() == [0, 1, 2, 4]
        assert smallest.predicted.tolist() == (1 - LABELS[smallest.rows]).tolist()
        assert smallest.attack == "FMN-100"
        changes = tf.constant(smallest.images - IMAGES[smallest.rows])
        found = norm_per_image(changes, norm)
        np.testing.assert_allclose(smallest.norms, found, rtol=1e-5)

    def test_value_range(self, find):
        wide = linear_net([[0.0, 0.0], SLOPE / 255], [0.0, 0.1])
        settings = {"value_range": (0, 255), "epsilon": 20.0}
        smallest = find(wide, images=255 * IMAGES, **settings)
        np.testing.assert_allclose(smallest.norms, 255 * find().norms, rtol=1e-3)

    @pytest.mark.parametrize(
        ("budget", "norm", "attacks"),
        [
            ("quick", "l1", "FMN-100"),
            ("standard", "l2", "FMN-200, DDN-200 and FAB-50"),
            ("standard", "linf", "FMN-200, PDPGD-200 and FAB-50"),
            ("full", "l1", "FMN-400, PDPGD-400 and FAB-100"),
        ],
    )
    def test_larger_budgets_take_more_attacks(
        self, budget, norm, attacks, make_request, make_probe_result
    ):
        request = make_request(model=NET, budget=budget, norm=norm)
        found = minimal_attacks(request, make_probe_result(NET, classes=2))
        assert names_of(found) == attacks
        assert {attack.norm for attack in found} == {norm}

    def test_the_nearest_of_several_attacks_counts(self, find, monkeypatch):
        class Darker(FMN):
            """Lowers the first pixel; class 1 ends at 0.45, 0.1, 0.15 and 0.3."""

            def __init__(self, by):
                super().__init__()
                self.by = by

            def generate(self, model, images, labels, **options):
                lower = images - self.by * np.reshape([1.0, 0.0], (2, 1, 1))
                return lower.clip(0, 1).astype("float32")

        attacks = [Darker(0.5), Darker(0.2), Darker(0.01)]
        monkeypatch.setattr(searches, "minimal_attacks", lambda *_: attacks)
        found = find()
        np.testing.assert_allclose(found.norms, [0.5, 0.2, 0.2, 0.5], atol=1e-6)
        assert found.predicted.tolist() == [0] * 4

    @pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
    def test_without_gradient_by_decisions(self, norm, find):
        smallest = find(probed=blind(NET), norm=norm)
        distances = np.abs(MARGINS) / np.linalg.norm(SLOPE, DUAL[norm])
        assert smallest.attack == "HopSkipJump"
        ratio = smallest.norms / distances[smallest.rows]
        assert ((ratio > 0.999) & (ratio < 1.5)).all()

    def test_nothing_to_look_from(self, find):
        assert find(rows=()) is None

    def test_nothing_found(self, find):
        always = linear_net(np.zeros((2, 2)), [2.0, 0.0])
        smallest = find(always, labels=np.zeros(5, int))
        assert np.isinf(smallest.norms).all()
        assert smallest.median is None

    def test_images_of_a_random_model_hold_on_fresh_draws(
        self, find, make_request, make_judge
    ):
        noise = RandomNoise(0.05, seed=0)
        net = keras.Sequential([keras.Input((2, 1, 1)), noise, *NET.layers])
        view = ModelView(net, is_random=True)
        smallest = find(net, probed={"is_random": True, "adaptive": view})
        rows = smallest.rows
        assert np.isfinite(smallest.norms).all()
        judge = make_judge(make_request(model=net))
        wrong = judge.wrong(smallest.images, LABELS[rows], draws=200, seed=5)
        assert (wrong > 70).all()
        changes = np.abs(smallest.images - IMAGES[rows]).max(axis=(1, 2, 3))
        np.testing.assert_allclose(smallest.norms, changes, rtol=1e-5)

    def test_goes_on_from_the_ledger(self, find, tmp_path):
        ledger = Ledger(tmp_path, {}, Progress())
        whole = find(ledger=ledger)
        # Three images, then the last one.
        parts = sorted(path.name for path in (tmp_path / "progress").glob("*.part"))
        assert parts == ["nearest-00000.part", "nearest-00003.part"]
        again = find(linear_net(np.zeros((2, 2)), [2.0, 0.0]), ledger=ledger)
        np.testing.assert_array_equal(again.norms, whole.norms)
        ledger.close(finished=True)


@pytest.mark.parametrize(
    ("norms", "median"),
    [
        ([3.0, 1.0, 2.0], 2.0),
        ([1.0, 2.0, 3.0, 5.0], 2.5),
        ([1.0, 2.0, np.inf], 2.0),
        ([1.0, np.inf, np.inf], None),
        ([1.0, np.inf], None),
        ([], None),
    ],
)
def test_median(norms, median):
    rows = np.arange(len(norms))
    arrays = {"rows": rows, "images": rows, "predicted": rows}
    smallest = SmallestPerturbations(norms=np.array(norms), attack="FAB-20", **arrays)
    assert smallest.median == median
