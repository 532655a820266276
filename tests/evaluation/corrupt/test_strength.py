import numpy as np
import pytest

from keras_advdef.evaluation._corrupt.strength import (
    CORRUPTIONS,
    SEVERITIES,
    strength_of,
)


def test_the_fifteen_of_the_paper():
    assert len(CORRUPTIONS) == 15
    assert SEVERITIES == (1, 2, 3, 4, 5)
    assert CORRUPTIONS[0] == "gaussian_noise"
    assert CORRUPTIONS[-1] == "jpeg_compression"


@pytest.mark.parametrize(
    ("kind", "side", "expected"),
    [
        ("gaussian_noise", 32, {"stddev": 0.04}),
        ("gaussian_noise", 64, {"stddev": 0.04}),
        ("gaussian_noise", 65, {"stddev": 0.08}),
        ("motion_blur", 32, {"radius": 6, "sigma": 1}),
        # Twice the image, twice the trace; but half the image, the same trace.
        ("motion_blur", 64, {"radius": 12, "sigma": 2}),
        ("motion_blur", 16, {"radius": 6, "sigma": 1}),
        ("motion_blur", 224, {"radius": 10, "sigma": 3}),
        ("motion_blur", 112, {"radius": 5, "sigma": 1.5}),
        # The number of rounds is no length.
        ("glass_blur", 448, {"sigma": 1.4, "reach": 2, "rounds": 2}),
        ("elastic_transform", 32, {"reach": 0, "smoothness": 0, "shift": 32 * 0.08}),
        ("elastic_transform", 8, {"reach": 0, "smoothness": 0, "shift": 8 * 0.08}),
        (
            "elastic_transform",
            224,
            {"reach": 244 * 2, "smoothness": 244 * 0.7, "shift": 244 * 0.1},
        ),
    ],
)
def test_mildest_strength(kind, side, expected):
    assert strength_of(kind, 1, side) == pytest.approx(expected)


@pytest.mark.parametrize("kind", CORRUPTIONS)
@pytest.mark.parametrize("side", [32, 224])
def test_severities_differ(kind, side):
    found = [strength_of(kind, severity, side) for severity in SEVERITIES]
    assert len({tuple(each.values()) for each in found}) == 5
    assert np.isfinite([[*each.values()] for each in found]).all()


def test_lengths_of_both_tables_meet():
    below, above = (strength_of("defocus_blur", 5, side) for side in (64, 65))
    assert below["radius"] == pytest.approx(above["radius"], rel=0.05)
