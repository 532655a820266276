import numpy as np
import pytest
from matplotlib.figure import Figure

from keras_advdef.core.text import printable
from keras_advdef.evaluation import draw_curve
from keras_advdef.evaluation.draw_curve import plain_text
from tests.support.hostile_text import HOSTILE_TEXT

POINTS = [
    {"epsilon": 0.0, "accuracy": 0.9, "interval": [0.8, 0.95]},
    {"epsilon": 0.1, "accuracy": 0.4, "interval": [0.3, 0.5]},
]


def drawn(**style):
    axes = Figure().subplots()
    draw_curve(axes, POINTS, **style)
    return axes


def test_line_and_band():
    axes = drawn(color="C3", marker="s")
    (line,) = axes.lines
    np.testing.assert_allclose(line.get_xdata(), [0.0, 0.1])
    np.testing.assert_allclose(line.get_ydata(), [90.0, 40.0])
    assert line.get_marker() == "s"
    band = axes.collections[0].get_paths()[0].get_extents()
    assert (band.ymin, band.ymax) == pytest.approx((30.0, 95.0))
    # Legends omit such names.
    assert line.get_label().startswith("_")


@pytest.mark.parametrize("style", [{}, {"color": "C3"}])
def test_band_has_the_line_s_colour(style):
    axes = drawn(**style)
    colour = Figure().subplots().plot([0], **style)[0].get_color()
    assert axes.lines[0].get_color() == colour
    expected = Figure().subplots().fill_between([0], [0], color=colour, alpha=0.2)
    shown = axes.collections[0].get_facecolor()
    np.testing.assert_allclose(shown, expected.get_facecolor())


def test_label_is_shown_in_the_legend():
    axes = drawn(label="_cost in $")
    axes.legend()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        r" _cost in \$"
    ]


@pytest.mark.parametrize("text", HOSTILE_TEXT)
def test_text_is_drawn_as_it_is(text):
    shown = Figure().text(0, 0, plain_text(text))
    without_escapes, is_formula = shown._preprocess_math(shown.get_text())
    assert not is_formula
    assert without_escapes.strip() == printable(text).strip()
    assert not shown.get_text().startswith("_")
