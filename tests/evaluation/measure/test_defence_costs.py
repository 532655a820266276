import itertools
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.evaluation._measure import defence_costs
from keras_advdef.evaluation._measure.defence_costs import (
    architecture_change,
    inference_time,
    measure_defence_costs,
)
from keras_advdef.evaluation._measure.robustness_curve import RobustnessCurve
from keras_advdef.evaluation._measure.smallest_perturbations import (
    SmallestPerturbations,
)
from keras_advdef.evaluation.accuracy_estimate import (
    AccuracyEstimate,
    paired_difference,
)
from keras_advdef.layers import BitDepthReduction, RandomNoise
from keras_advdef.models import DefenseGAN
from tests.support.generators import small_generator
from tests.support.nets import linear_net, small_net


class TestArchitectureChange:
    def test_cards_without_a_reference(self):
        net = small_net(front=[RandomNoise(0.1), BitDepthReduction(3)])
        nested = keras.Sequential([keras.Input((8, 8, 1)), net])
        expected = {"layers_added": 2, "parameters_added": 0}
        assert architecture_change(net, None) == expected
        assert architecture_change(nested, None) == expected
        assert architecture_change(small_net(), None)["layers_added"] == 0

    def test_a_defence_comes_with_what_lies_in_it(self):
        generator = small_generator()
        model = DefenseGAN(generator, small_net())
        change = architecture_change(model, None)
        assert change == {
            "layers_added": 1,
            "parameters_added": generator.count_params(),
        }

    def test_against_a_reference(self):
        # Three weights for each of eight channels; the noise layer has none.
        front = [RandomNoise(0.1), keras.layers.Conv2D(8, 1)]
        front.append(keras.layers.Conv2D(1, 1))
        change = architecture_change(small_net(front=front), small_net())
        assert change == {"layers_added": 3, "parameters_added": 8 * 2 + 8 + 1}

    def test_may_shrink(self):
        bare = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()])
        change = architecture_change(bare, small_net())
        assert change["layers_added"] == 1 - 5
        assert change["parameters_added"] == -small_net().count_params()

    def test_functions_show_nothing(self):
        unknown = {"layers_added": None, "parameters_added": None}
        assert architecture_change(len, small_net()) == unknown
        # A reference without layers is none.
        assert architecture_change(small_net(), len)["layers_added"] == 0


# Right on all four, and on the first two only.
BOTH = linear_net([[1.0, -1.0], [-1.0, 1.0]], [0.0, 0.0])
FIRST = linear_net([[0.0, 0.0], [0.0, 0.0]], [1.0, 0.0])
IMAGES = np.array([[0.9, 0.1]] * 2 + [[0.1, 0.9]] * 2).reshape(4, 2, 1, 1)
LABELS = np.array([0, 0, 1, 1])
CURVE = RobustnessCurve(
    epsilons=(0.0, 0.05, 0.1, 0.2),
    estimates=tuple(AccuracyEstimate(correct, 4) for correct in (4, 3, 2, 0)),
    attack="PGD-20",
)


@pytest.fixture
def request_of(make_request):
    def make(**changes):
        common = {"images": IMAGES, "labels": LABELS, "batch_size": 3}
        return make_request(model=BOTH, **common, **changes)

    return make


def costs_of(request, smallest=None):
    correct = np.ones(4, bool)
    return measure_defence_costs(
        request, labels=LABELS, correct=correct, curve=CURVE, smallest=smallest
    )


class TestMeasureDefenceCosts:
    def test_against_a_reference(self, request_of):
        costs = costs_of(request_of(reference=FIRST))
        change = costs["clean_accuracy_change"]
        assert change["difference"] == 0.5
        _, interval = paired_difference(np.ones(4, bool), LABELS == 0)
        assert change["interval"] == list(interval)
        assert change["interval_method"] == "agresti-min"
        assert costs["architecture"] == {"layers_added": 0, "parameters_added": 0}

    def test_without(self, request_of):
        costs = costs_of(request_of())
        assert costs["clean_accuracy_change"] is None
        assert costs["smallest_perturbation"] is None
        assert costs["architecture"]["layers_added"] == 0

    def test_only_smaller_epsilons_count_as_small(self, request_of):
        (small,) = costs_of(request_of(epsilon=0.1))["small_epsilons"]
        assert (small["epsilon"], small["accuracy"]) == (0.05, 0.75)

    def test_smallest_perturbations(self, request_of):
        smallest = SmallestPerturbations(
            rows=np.arange(3),
            images=IMAGES[:3],
            norms=np.array([0.3, 0.1, np.inf]),
            predicted=1 - LABELS[:3],
            attack="FAB-20",
        )
        found = costs_of(request_of(), smallest)["smallest_perturbation"]
        assert found == {"median": 0.3, "count": 3, "attack": "FAB-20"}


class TestInferenceTime:
    def test_alone(self, request_of):
        found = inference_time(request_of())
        assert found.keys() == {"seconds_per_batch", "batch"}
        assert found["batch"] == 3
        assert found["seconds_per_batch"] > 0.0

    def test_fastest_turn_after_tracing_counts(self, request_of, monkeypatch):
        seconds = {
            id(model): itertools.chain([tracing], itertools.cycle(turns))
            for model, tracing, turns in (
                (BOTH, 0.25, [1.0, 0.5, 2.0]),
                (FIRST, 9.0, [4.0, 3.0, 2.0]),
            )
        }
        now = 0.0

        class Judge:
            def __init__(self, model, **settings):
                self.seconds = seconds[id(model)]
                self.logits_fn = types.SimpleNamespace(build=lambda shape: None)

            def run(self, batch, key):
                nonlocal now
                now += next(self.seconds)
                return tf.zeros((len(batch), 2))

        clock = types.SimpleNamespace(perf_counter=lambda: now)
        monkeypatch.setattr(defence_costs, "time", clock)
        monkeypatch.setattr(defence_costs, "Judge", Judge)
        found = inference_time(request_of(reference=FIRST))
        expected = {"seconds_per_batch": 0.5, "inference_time_ratio": 0.25}
        assert found == {**expected, "batch": 3}
