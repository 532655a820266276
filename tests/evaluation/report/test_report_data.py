import json

import pytest

from keras_advdef.evaluation import AccuracyEstimate

# The keys that readers of `report.json` rely on.
KEYS = {
    "headline",
    "masking_suspected",
    "clean",
    "naive",
    "adaptive",
    "interval_method",
    "checks",
    "curve",
    "per_class",
    "attacks",
    "duties",
    "seed",
    "epsilon",
    "norm",
    "value_range",
    "budget",
    "versions",
    "run",
    "class_names",
    "is_robust_accuracy",
}
RUN = {
    "command",
    "started",
    "seconds",
    "traces",
    "seconds_by_stage",
    "passes_per_image",
    "model",
    "data",
}


@pytest.fixture
def data(report):
    """What the report of ten images, epsilon 0.08 and a curve at 0.04 holds."""
    return json.loads(report.to_json())


def test_keys(data):
    assert data.keys() >= KEYS
    assert data["run"].keys() >= RUN
    for name in ("clean", "naive", "adaptive"):
        assert data[name].keys() >= {"accuracy", "interval", "count", "attacks"}
    for check in data["checks"]:
        assert check.keys() == {"name", "passed", "detail"}
        assert check["detail"].endswith(".")
    assert data["interval_method"] == "clopper-pearson"


def test_numbers_agree(data):
    for name in ("clean", "adaptive"):
        classes = data["per_class"]
        correct = sum(each[name]["accuracy"] * each["count"] for each in classes)
        assert correct == pytest.approx(10 * data[name]["accuracy"])
        estimate = AccuracyEstimate(round(correct), 10)
        assert data[name]["interval"] == pytest.approx(list(estimate.interval))
    assert [point["epsilon"] for point in data["curve"]] == [0.0, 0.04, 0.08]
    assert data["curve"][0]["accuracy"] == data["clean"]["accuracy"]
    assert data["curve"][-1]["accuracy"] == data["adaptive"]["accuracy"]
    assert data["images"] == {"evaluated": 10, "given": 10}


def test_what_the_report_is_about(data, trained_net):
    assert data["run"]["model"] == {
        "name": trained_net.name,
        "parameters": trained_net.count_params(),
    }
    assert data["run"]["data"] == {"name": "", "shape": [8, 8, 1]}
    assert data["class_names"] is None
    assert data["is_robust_accuracy"] is False
    assert [each["key"] for each in data["attacks"]][:2] == ["naive", "check-fgsm"]
