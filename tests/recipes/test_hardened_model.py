import json

import numpy as np
import pytest

from keras_advdef.evaluation import RobustnessReport
from keras_advdef.recipes import HardenedModel
from tests.recipes.conftest import small_net, striped


@pytest.fixture
def hardened(cheap_report):
    """A hardened model whose attacked accuracy is made up: 1 of 6, then 4 of 6."""
    data = json.loads(cheap_report.to_json())
    for name, right in (("clean", 5), ("adaptive", 4)):
        data[name] = {**data[name], "accuracy": right / 6}
    before = json.loads(cheap_report.to_json())
    before["adaptive"] = {**before["adaptive"], "accuracy": 1 / 6}
    images = striped(2)[0]
    return HardenedModel(
        model=small_net(),
        before=RobustnessReport(before),
        after=RobustnessReport(data),
        history={"loss": [2.0, 1.0], "val_adversarial_accuracy": [0.2, 0.6]},
        facts={
            "recipe": "fast",
            "epsilon": 0.1,
            "epsilon_text": "linf, epsilon 0.1",
            "norm": "linf",
            "epochs": 2,
            "best_epoch": 1,
            "seconds": 65.0,
            "precision": "float32",
            "seed": 0,
            "data": "9 training images <b>",
            "stopped": "",
            "notes": ["A note."],
        },
        example=np.stack([images, np.clip(images + 0.1, 0.0, 1.0)]),
    )


def test_summary(hardened):
    text = hardened.summary()
    assert "16.7 %" in text
    assert "66.7 %" in text
    assert "2 epochs, the best was epoch 2" in text


def test_plot_shows_epochs_and_both_curves(hardened):
    epochs, epsilons = hardened.plot().axes
    (curve, best) = epochs.lines
    assert curve.get_label() == "attacked"
    np.testing.assert_allclose(curve.get_ydata(), [20.0, 60.0])
    assert list(best.get_xdata()) == [2, 2]
    assert {line.get_label() for line in epsilons.lines[:2]} == {"before", "after"}


def test_page_counts_and_escapes(hardened):
    page = hardened.to_html()
    assert "Of 6 images, 4 are classified right" in page
    assert "kept 1." in page
    assert "9 training images &lt;b&gt;" in page
    assert page.count("data:image/png;base64,") == 2
    assert 'src="http' not in page


def test_save_writes_atomically(hardened, tmp_path):
    hardened.save(tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        *("after", "before", "comparison.html", "epsilon.png", "model.keras"),
        *("report.html", "report.png", "served"),
    }
    again = RobustnessReport.load(tmp_path / "out" / "after")
    assert again.adaptive["accuracy"] == 4 / 6
