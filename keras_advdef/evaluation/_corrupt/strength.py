"""strength_of: the published strengths of the corruptions, for images of any size."""

from collections.abc import Sequence
from typing import NamedTuple

SEVERITIES = (1, 2, 3, 4, 5)
# Up to this size, images get the strengths of CIFAR-10-C; above, those of ImageNet-C.
_LARGEST_SMALL = 64
# The sizes for which the lengths of either were published.
_SMALL_SIDE, _LARGE_SIDE = 32, 224
# The published elastic transformation of 224 pixels counts in shares of 244.
_WIDER = 244 / 224


class _Published(NamedTuple):
    """The strengths of one corruption, one row for each severity.

    Attributes:
        names: Names of the columns.
        small: For images of 32 pixels.
        large: For images of 224 pixels.
        lengths: The columns that are lengths in pixels.
        shares: The columns that are shares of the image's side.
    """

    names: tuple[str, ...]
    small: Sequence[tuple[float, ...]]
    large: Sequence[tuple[float, ...]]
    lengths: frozenset[str] = frozenset()
    shares: frozenset[str] = frozenset()


def _singles(*values: float) -> tuple[tuple[float, ...], ...]:
    return tuple((value,) for value in values)


_PUBLISHED = {
    "gaussian_noise": _Published(
        ("stddev",),
        _singles(0.04, 0.06, 0.08, 0.09, 0.10),
        _singles(0.08, 0.12, 0.18, 0.26, 0.38),
    ),
    "shot_noise": _Published(
        ("photons",), _singles(500, 250, 100, 75, 50), _singles(60, 25, 12, 5, 3)
    ),
    "impulse_noise": _Published(
        ("share",),
        _singles(0.01, 0.02, 0.03, 0.05, 0.07),
        _singles(0.03, 0.06, 0.09, 0.17, 0.27),
    ),
    "defocus_blur": _Published(
        ("radius", "softness"),
        ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
        lengths=frozenset({"radius", "softness"}),
    ),
    "glass_blur": _Published(
        ("sigma", "reach", "rounds"),
        ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
        ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
        lengths=frozenset({"sigma", "reach"}),
    ),
    "motion_blur": _Published(
        ("radius", "sigma"),
        ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
        ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
        lengths=frozenset({"radius", "sigma"}),
    ),
    "zoom_blur": _Published(
        ("furthest", "step"),
        ((0.05, 0.01), (0.10, 0.01), (0.15, 0.01), (0.20, 0.01), (0.25, 0.01)),
        ((0.10, 0.01), (0.15, 0.01), (0.20, 0.02), (0.24, 0.02), (0.30, 0.03)),
    ),
    "snow": _Published(
        ("mean", "spread", "flake", "threshold", "radius", "sigma", "kept"),
        (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
        lengths=frozenset({"flake", "radius", "sigma"}),
    ),
    "frost": _Published(
        ("kept", "added"),
        ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
        ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
    ),
    "fog": _Published(
        ("added", "decay"),
        ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
        ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
    ),
    "brightness": _Published(
        ("added",),
        _singles(0.05, 0.1, 0.15, 0.2, 0.3),
        _singles(0.1, 0.2, 0.3, 0.4, 0.5),
    ),
    "contrast": _Published(
        ("kept",),
        _singles(0.75, 0.5, 0.4, 0.3, 0.15),
        _singles(0.4, 0.3, 0.2, 0.1, 0.05),
    ),
    "elastic_transform": _Published(
        ("reach", "smoothness", "shift"),
        (
            (0, 0, 0.08),
            (0.05, 0.2, 0.07),
            (0.08, 0.06, 0.06),
            (0.1, 0.04, 0.05),
            (0.1, 0.03, 0.03),
        ),
        tuple(
            (_WIDER * reach, _WIDER * smoothness, _WIDER * shift)
            for reach, smoothness, shift in (
                (2, 0.7, 0.1),
                (2, 0.08, 0.2),
                (0.05, 0.01, 0.02),
                (0.07, 0.01, 0.02),
                (0.12, 0.01, 0.02),
            )
        ),
        shares=frozenset({"reach", "smoothness", "shift"}),
    ),
    "pixelate": _Published(
        ("share",),
        _singles(0.95, 0.9, 0.85, 0.75, 0.65),
        _singles(0.6, 0.5, 0.4, 0.3, 0.25),
    ),
    "jpeg_compression": _Published(
        ("quality",), _singles(80, 65, 58, 50, 40), _singles(25, 18, 15, 10, 7)
    ),
}
# The names of the corruptions, in the order of the paper.
CORRUPTIONS = tuple(_PUBLISHED)


def strength_of(kind: str, severity: int, side: int) -> dict[str, float]:
    """Returns the strength of a corruption, as arguments of its function.

    Lengths grow with the image, so that a large image looks as corrupted as a small
    one. Those for images below 32 pixels stay as published: a blur by a fraction of a
    pixel would change nothing.

    Args:
        kind: One of `CORRUPTIONS`.
        severity: Integer in 1..5.
        side: The shorter side of the images, in pixels.

    Example:

    >>> from keras_advdef.evaluation._corrupt.strength import strength_of
    >>> strength_of("motion_blur", 5, 32), strength_of("motion_blur", 5, 448)
    ({'radius': 9.0, 'sigma': 2.5}, {'radius': 40.0, 'sigma': 30.0})
    """
    published = _PUBLISHED[kind]
    is_small = side <= _LARGEST_SMALL
    rows = published.small if is_small else published.large
    scale = max(1.0, side / _SMALL_SIDE) if is_small else side / _LARGE_SIDE
    found = {}
    for name, value in zip(published.names, rows[severity - 1], strict=True):
        factor = scale if name in published.lengths else 1.0
        found[name] = value * (float(side) if name in published.shares else factor)
    return found
