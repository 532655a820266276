import numpy as np
import pytest

from keras_advdef.evaluation._report.corruption_plot import corruption_plot


def texts_of(figure):
    (axes,) = figure.axes
    return [text.get_text() for text in axes.texts]


@pytest.fixture
def rows():
    image = np.linspace(0, 1, 24).reshape(4, 6, 1)
    return [("none", image, [], 97.0), ("fog", image, [80.4, 20.0], 50.2)]


def test_numbers_stand_in_their_row(rows):
    (axes,) = corruption_plot(rows, (1, 5)).axes
    places = {text.get_text(): text.get_position() for text in axes.texts}
    assert places["80"] == (0.5, 1.5)
    assert places["20"] == (1.5, 1.5)
    assert places["97"][0] == places["50"][0] == places["mean"][0]
    assert places["1"][0] == places["80"][0]
    assert places["97"][1] == places["none"][1] == 0.5


def test_more_accuracy_is_darker_and_numbers_are_legible(rows):
    (axes,) = corruption_plot(rows, (1, 5)).axes
    light = [sum(patch.get_facecolor()[:3]) for patch in axes.patches]
    # Those of 97, 80, 20 and 50 percent.
    assert np.argsort(light).tolist() == [0, 1, 3, 2]
    inks = {text.get_text(): text.get_color() for text in axes.texts}
    assert (inks["97"], inks["20"]) == ("white", "black")


@pytest.mark.parametrize(("severities", "least"), [((3,), 2.0), ((1, 2, 3, 4, 5), 4.0)])
def test_everything_is_inside(severities, least):
    rows = [("elastic transform", None, [50.0] * len(severities), 50.0)]
    figure = corruption_plot(rows, severities)
    assert least < figure.get_size_inches()[0] < 5.0
    frame = figure.bbox
    figure.canvas.draw()
    for text in figure.axes[0].texts:
        box = text.get_window_extent()
        assert frame.x0 <= box.x0, text
        assert box.x1 <= frame.x1, text
        assert frame.y0 <= box.y0, text
        assert box.y1 <= frame.y1, text


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_examples_keep_their_proportions(channels):
    image = np.full((4, 8, channels), 0.5)
    (axes,) = corruption_plot([("fog", image, [50.0], 50.0)], (1,)).axes
    (shown,) = axes.get_images()
    left, right, bottom, top = shown.get_extent()
    assert right - left == pytest.approx(2 * (bottom - top))
    assert -1 < left < right < 0
    assert 0 < top < bottom < 1
    assert axes.get_aspect() == 1.0
