import numpy as np
import pytest
from matplotlib.figure import Figure

from keras_advdef.evaluation._measure.gallery import Gallery
from keras_advdef.evaluation._report.draw_gallery import draw_gallery, magnified

DATA = {"class_names": ["cat", "a very long name of a dog"], "norm": "linf"}


@pytest.fixture
def gallery():
    images = np.random.default_rng(0).uniform(size=(3, 6, 5, 3))
    return Gallery(
        clean=images,
        adversarial=images.clip(0.1),
        norms=np.array([1.0, 2.0, 4.0]),
        labels=np.array([0, 1, 2]),
        predicted=np.array([1, 2, 0]),
    )


def test_images_and_titles(gallery):
    axes = Figure().subplots(3, 3, squeeze=False)
    draw_gallery(axes, gallery, {**DATA, "value_range": [0, 255]})
    assert [each.get_ylabel() for each in axes[:, 0]] == [
        "clean",
        "perturbation",
        "adversarial",
    ]
    titles = [[each.get_title() for each in row] for row in axes]
    assert titles[0] == ["cat", "a very lon...", "2"]
    assert titles[1][0] == magnified(gallery.magnification(0))
    assert titles[2] == ["a very lon...\n1/255", "2\n2/255", "cat\n4/255"]
    for row, panel in enumerate(gallery.panels(1)):
        (image,) = axes[row, 1].get_images()
        np.testing.assert_allclose(image.get_array(), panel)


@pytest.mark.parametrize(
    ("factor", "text"),
    [
        (6220.0, "x 6,200"),
        (3.48, "x 3.5"),
        (9.96, "x 10"),
        (0.5, "x 0.5"),
        (0.5 / 1e-12, "x 1,000,000,000"),
    ],
)
def test_magnification_has_no_exponent(factor, text):
    assert magnified(factor) == text
