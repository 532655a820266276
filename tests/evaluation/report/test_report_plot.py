import numpy as np
import pytest

from keras_advdef.evaluation._measure.gallery import Gallery
from keras_advdef.evaluation._report.curve_figure import curve_figure
from keras_advdef.evaluation._report.report_plot import report_plot

DATA = {
    "class_names": ["cat", "dog"],
    "epsilon": 0.1,
    "norm": "linf",
    "value_range": [0.0, 1.0],
    "curve": [
        {"epsilon": 0.0, "accuracy": 0.9, "interval": [0.8, 0.95]},
        {"epsilon": 0.1, "accuracy": 0.4, "interval": [0.3, 0.5]},
    ],
}


def gallery(channels):
    images = np.random.default_rng(0).uniform(size=(3, 6, 5, channels))
    return Gallery(
        clean=images,
        adversarial=images.clip(0.1),
        norms=np.array([0.1, 0.2, 0.3]),
        labels=np.array([0, 1, 2]),
        predicted=np.array([1, 2, 0]),
    )


def test_curve_shows_the_data():
    axes = report_plot(DATA, None).axes[0]
    line = axes.lines[0]
    np.testing.assert_allclose(line.get_xdata(), [0.0, 0.1])
    np.testing.assert_allclose(line.get_ydata(), [90.0, 40.0])
    assert axes.get_ylim() == (0.0, 100.0)
    assert axes.get_xlabel() == "epsilon: largest change of a pixel, of its range"


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_gallery_stands_below(channels):
    figure = report_plot(DATA, gallery(channels))
    assert len(figure.axes) == 1 + 3 * 3
    titles = [axes.get_title() for axes in figure.axes[1:]]
    assert titles[:3] == ["cat", "dog", "2"]
    assert titles[6] == "dog\n25.5/255"


def test_curve_alone():
    (axes,) = report_plot(DATA, None).axes
    band = axes.collections[0].get_paths()[0].get_extents()
    assert (band.ymin, band.ymax) == pytest.approx((30.0, 95.0))
    assert axes.get_xlim() == (0.0, 0.1)
    assert axes.lines[1].get_xdata() == [0.1, 0.1]
    assert axes.get_legend() is None


def test_certified_accuracy_stands_beside():
    points = [
        {"radius": radius, "accuracy": share, "interval": [share, share]}
        for radius, share in ((0.0, 0.8), (0.5, 0.2))
    ]
    certified = {"method": "a bound", "norm": "l2", "curve": points}
    attacked, proved = report_plot({**DATA, "certified": certified}, None).axes
    np.testing.assert_allclose(attacked.lines[0].get_ydata(), [90.0, 40.0])
    np.testing.assert_allclose(proved.lines[0].get_xdata(), [0.0, 0.5])
    np.testing.assert_allclose(proved.lines[0].get_ydata(), [80.0, 20.0])
    assert proved.get_xlabel() == "l2 radius"


def test_longest_curve_is_shown_whole():
    point = {**DATA["curve"][1], "epsilon": 0.4}
    longer = {**DATA, "curve": [*DATA["curve"], point]}
    axes = report_plot(longer, None).axes[0]
    assert axes.get_xlim() == (0.0, 0.4)


def test_labels_are_drawn_as_they_are():
    points = [{"radius": 0.1, "accuracy": 0.8, "interval": [0.7, 0.9]}]
    certified = {"method": "a bound", "norm": "$x", "curve": points}
    figure = report_plot({**DATA, "norm": "$y$", "certified": certified}, None)
    attacked, proved = (axes.get_xlabel() for axes in figure.axes)
    assert attacked == (r"epsilon: \$y\$ norm of the change, pixels from 0 to 1")
    assert proved == r"\$x radius"


def test_reference_has_a_curve_beside():
    points = [{**each, "accuracy": each["interval"][0]} for each in DATA["curve"]]
    (axes,) = report_plot({**DATA, "reference": {"curve": points}}, None).axes
    model, reference, _ = axes.lines
    np.testing.assert_allclose(model.get_ydata(), [90.0, 40.0])
    np.testing.assert_allclose(reference.get_ydata(), [80.0, 30.0])
    shown = [text.get_text() for text in axes.get_legend().get_texts()]
    assert shown == ["model", "reference"]


@pytest.mark.parametrize(
    ("epsilon", "value_range", "labels"),
    [
        (8 / 255, [0, 1], ["0", "8/255"]),
        (16.0, [0, 255], ["0", "4/255", "8/255", "12/255", "16/255"]),
        (0.3, [0, 1], ["0", "20/255", "40/255", "60/255"]),
        # Rounded to six digits, this is less than 32/255.
        (0.12549, [0, 1], ["0", "8/255", "16/255", "24/255", "32/255"]),
    ],
)
def test_epsilons_are_told_in_255ths(epsilon, value_range, labels):
    points = [{**DATA["curve"][1], "epsilon": epsilon}]
    data = {**DATA, "value_range": value_range, "epsilon": epsilon, "curve": points}
    (axes,) = report_plot(data, None).axes
    axes.figure.canvas.draw()
    shown = [text.get_text() for text in axes.get_xticklabels()]
    assert {*labels} <= {*shown}
    assert all(text == "0" or text.endswith("/255") for text in shown)


def test_epsilons_of_other_norms_are_plain():
    (axes,) = report_plot({**DATA, "norm": "l2"}, None).axes
    axes.figure.canvas.draw()
    assert "0.10" in [text.get_text() for text in axes.get_xticklabels()]


@pytest.mark.parametrize("certified", [None, "l2"])
def test_phones_get_plots_below_each_other(certified):
    points = [{"radius": 0.1, "accuracy": 0.8, "interval": [0.7, 0.9]}]
    proved = {"method": "a bound", "norm": "l2", "curve": points}
    figure = curve_figure({**DATA, "certified": certified and proved}, is_narrow=True)
    width, height = figure.get_size_inches()
    assert width < 4
    assert len(figure.axes) == (2 if certified else 1)
    assert height > 3 * len(figure.axes)
    figure.canvas.draw()
    left = {round(axes.get_position().x0, 2) for axes in figure.axes}
    assert max(left) - min(left) < 0.05
