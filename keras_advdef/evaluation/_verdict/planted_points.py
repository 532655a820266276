"""Planted perturbations: a corner of a ball that a linear classifier singles out.

After Zimmermann et al. 2022, "Increasing confidence in adversarial robustness
evaluations", NeurIPS.
"""

from typing import NamedTuple

import numpy as np

# Points of the inner ball, corners to choose from, and further points of the ball.
INNER, CORNERS, FURTHER = 120, 16, 64
# Radius of the inner ball, in epsilons.
_SHRUNK = 0.95
# Where between the inner points and the corner the classifier changes its mind. Of a
# random model both are means over draws, which differ from those of other draws.
_CLOSE, _CLOSE_OF_RANDOM = 0.999, 0.8
# Keeps the classifier from directions in which inner points hardly differ. With 0.001,
# attacks miss up to a fifth of the planted perturbations of honest nets; with 1, nets
# with the gradients of another one are found to be open, too.
_RIDGE = 0.03
_TINY = 1e-20


class Ball(NamedTuple):
    """The images that an attack may choose from.

    Attributes:
        image: The image in its middle, `(rows, cols, channels)`.
        epsilon: Radius, in the units of the pixels.
        norm: "linf", "l2" or "l1".
        low: Smallest pixel.
        high: Largest pixel.
    """

    image: np.ndarray
    epsilon: float
    norm: str
    low: float
    high: float

    def points(self, rng: np.random.Generator) -> np.ndarray:
        """Draws inner points, corners, further points, and adds the image itself.

        Args:
            rng: Draws them.

        Returns:
            Float32 images `(INNER + CORNERS + FURTHER + 1, rows, cols, channels)`.

        Example:

        >>> from keras_advdef.evaluation._verdict.planted_points import Ball
        >>> ball = Ball(np.full((4, 4, 1), 0.5), 0.1, "linf", 0.0, 1.0)
        >>> ball.points(np.random.default_rng(0)).shape
        (201, 4, 4, 1)
        """
        inner = _SHRUNK * self._inside(rng, INNER)
        corners = self._corners(rng, CORNERS)
        further = self._inside(rng, FURTHER)
        moves = [inner, corners, further, np.zeros((1, *self.image.shape))]
        moved = self.image + np.concatenate(moves)
        return np.clip(moved, self.low, self.high).astype(np.float32)

    def _inside(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Perturbations drawn uniformly from the ball."""
        shape = (count, *self.image.shape)
        if self.norm == "linf":
            return self.epsilon * rng.uniform(-1.0, 1.0, shape)
        draw = rng.normal if self.norm == "l2" else rng.laplace
        direction = draw(size=shape)
        order = 2 if self.norm == "l2" else 1
        flat = direction.reshape(count, -1)
        sizes = np.linalg.norm(flat, ord=order, axis=1)
        radius = rng.uniform(size=count) ** (1.0 / self.image.size)
        scale = self.epsilon * radius / sizes
        return direction * scale[:, None, None, None]

    def _corners(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Perturbations on the surface of the ball, far from its inner points."""
        shape = (count, *self.image.shape)
        if self.norm == "linf":
            return self.epsilon * rng.choice([-1.0, 1.0], shape)
        if self.norm == "l2":
            direction = rng.normal(size=shape)
            sizes = np.linalg.norm(direction.reshape(count, -1), axis=1)
            return direction * (self.epsilon / sizes)[:, None, None, None]
        # In l1, a few pixels that move to an end of their range.
        middle = 0.5 * (self.low + self.high)
        reach = np.where(self.image > middle, self.low, self.high) - self.image
        order = np.argsort(rng.uniform(size=(count, self.image.size)), axis=1)
        sizes = np.abs(reach.reshape(-1))[order]
        before = np.cumsum(sizes, axis=1) - sizes
        spent = np.clip(self.epsilon - before, 0.0, sizes)
        found = np.zeros((count, self.image.size))
        np.put_along_axis(found, order, spent, axis=1)
        return np.sign(reach) * found.reshape(shape)


class Planted(NamedTuple):
    """A linear classifier of features under which one corner stands alone.

    Attributes:
        slope: Its weights.
        offset: Its bias; its value is about -1 at the image, and above 0 at the corner.
        is_apart: Whether the corner is on one side and all inner points are on the
            other.
        by_chance: Share of the further points that are on the corner's side.
    """

    slope: np.ndarray
    offset: float
    is_apart: bool
    by_chance: float


def plant(features: np.ndarray, again: np.ndarray | None = None) -> Planted:
    """Chooses the corner that stands out most, and the classifier that singles it out.

    The classifier is a ridge discriminant: its slope is `(S / t + 0.03 I)**-1 (f - m)`
    for the mean m and the covariance S of the inner points, of trace t, and the
    features f of the corner.

    Args:
        features: Features of `Ball.points`, `(INNER + CORNERS + FURTHER + 1, width)`.
        again: Of a random model, those of the corners on other draws: the corner that
            stands out most is one that was lucky.

    Example:

    >>> from keras_advdef.evaluation._verdict.planted_points import Ball, plant
    >>> ball = Ball(np.full((4, 4, 1), 0.5), 0.1, "linf", 0.0, 1.0)
    >>> points = ball.points(np.random.default_rng(0))
    >>> planted = plant(points.reshape(len(points), -1))
    >>> planted.is_apart, planted.by_chance
    (True, 0.0)
    """
    groups = np.split(features.astype(np.float64), np.cumsum([INNER, CORNERS, FURTHER]))
    mean = groups[0].mean(axis=0)
    inner, corners, further, image = (group - mean for group in groups)
    size = np.sqrt(max((inner**2).sum() / INNER, _TINY))
    slopes = _discriminants(inner / size, corners / size)
    highest = (inner @ slopes).max(axis=0)
    reached = (corners * slopes.T).sum(axis=1)
    best = int(np.argmax((reached - highest) / (np.abs(reached) + _TINY)))
    # As precise as the attacked model.
    slope = slopes[:, best].astype(np.float32).astype(np.float64)
    corner = corners[best] if again is None else again[best] - mean
    low, high, clean = (inner @ slope).max(), corner @ slope, image[0] @ slope
    close = _CLOSE if again is None else _CLOSE_OF_RANDOM
    level = low + close * (high - low)
    scale = 1.0 / max(level - clean, _TINY)
    offset = -(level + mean @ slope) * scale
    return Planted(
        slope=slope * scale,
        offset=float(offset),
        is_apart=bool(high > low and level > clean and np.isfinite(offset)),
        by_chance=float((further @ slope > level).mean()),
    )


def _discriminants(inner: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """The slope for each corner, `(width, corners)`, by the matrix of inner products.

    There are fewer inner points than values of most features.
    """
    gram = inner @ inner.T / len(inner) + _RIDGE * np.eye(len(inner))
    weights = np.linalg.solve(gram, inner @ corners.T / len(inner))
    return (corners.T - inner.T @ weights) / _RIDGE
