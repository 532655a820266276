"""The table of images agrees with the report that it belongs to."""

import csv
import io

import numpy as np
import pytest

from keras_advdef.attacks import FGSM, PGD
from keras_advdef.evaluation import evaluate_robustness
from keras_advdef.layers import RandomNoise
from tests.support.nets import linear_net, small_net

# Class 1 where the first pixel is above the second.
NET = linear_net([[0.0, 0.0], [1.0, -1.0]], [0.0, 0.0])
IMAGES = np.array([[0.6, 0.5], [0.9, 0.2], [0.7, 0.4], [0.2, 0.8]], "float32")


def evaluated(model=NET, images=None, **changes):
    settings = {
        "epsilon": 0.2,
        "budget": "quick",
        "attacks": [FGSM(0.2), PGD(0.2, steps=3)],
        "curve": [0.2],
        "verbose": 0,
    }
    if images is None:
        images = IMAGES.reshape(4, 2, 1, 1)
    return evaluate_robustness(model, images, [1, 1, 1, 1], **{**settings, **changes})


@pytest.fixture(scope="module")
def report():
    return evaluated()


def table(report):
    return [*csv.DictReader(io.StringIO(report.images))]


class TestImagesCsv:
    def test_one_line_for_each_image(self, report):
        rows = table(report)
        assert [row["index"] for row in rows] == ["0", "1", "2", "3"]
        assert {row["label"] for row in rows} == {"1"}
        assert [row["clean"] for row in rows] == ["1", "1", "1", "0"]

    def test_tells_which_attack_broke_which_image(self, report):
        # The margins 0.1, 0.7 and 0.3 fall by at most 0.4; the last image is wrong.
        rows = table(report)
        assert [row["PGD-20 (naive)"] for row in rows] == ["0", "1", "0", ""]
        # Only what is left is attacked.
        assert [row["PGD-3"] for row in rows] == ["", "1", "", ""]
        names = [each["name"] for each in report.data["attacks"]]
        for name in names:
            assert any(column.startswith(name) for column in rows[0])
        assert len(rows[0]) == 3 + len(names) + 3

    def test_broken_images_are_those_of_the_accuracy(self, report):
        attacks = [*table(report)[0]][3:-3]
        right = [
            all(row[attack] in ("", "1") for attack in attacks) and row["clean"] == "1"
            for row in table(report)
        ]
        assert np.mean(right) == report.adaptive["accuracy"]

    def test_norms_are_the_distances_to_the_boundary(self, report):
        norms = [row["norm"] for row in table(report)]
        assert norms[3] == ""
        found = [float(norm) for norm in norms[:3]]
        # A linear model with margin m has its boundary at m / 2 in linf.
        assert found == pytest.approx([0.05, 0.35, 0.15], abs=0.002)

    def test_certified_radii(self, report):
        # In l2 the boundary lies at m / sqrt(2).
        radii = [float(row["certified"]) for row in table(report)]
        expected = np.array([0.1, 0.7, 0.3, 0.0]) / np.sqrt(2)
        assert radii == pytest.approx(expected.tolist(), abs=1e-4)

    def test_further_norms_have_columns_of_their_own(self):
        report = evaluated(norms=["linf", "l2"], epsilon=[0.2, 0.3], attacks=None)
        row = table(report)[0]
        assert row["PGD-20 (naive)"] == row["l2: APGD-20 on cross_entropy"] == "0"
        assert "l2: norm" not in row

    def test_random_models_have_shares(self):
        images = np.random.default_rng(0).uniform(size=(4, 8, 8, 1))
        net = small_net(front=[RandomNoise(0.3, seed=0)])
        report = evaluated(net, images, attacks=[FGSM(0.2)])
        shares = {float(row["clean"]) for row in table(report)}
        assert shares <= {each / 10 for each in range(11)}
