"""How far the boundary of a linear model is, in closed form within the pixel box."""

import numpy as np
import scipy.optimize

from tests.support.nets import linear_net


def linear_problem(count=6, seed=5):
    """A linear net of 4 classes, images amid the range and the logit gaps to cross.

    Returns:
        The net, images, labels, and for each image the pairs of weights and gap of its
        three boundaries.
    """
    generator = np.random.default_rng(seed)
    weights, bias = generator.normal(size=(4, 16)), 0.1 * generator.normal(size=4)
    net = linear_net(weights, bias, (4, 4, 1))
    images = generator.uniform(0.3, 0.7, (count, 4, 4, 1)).astype("float32")
    logits = images.reshape(count, -1).astype(float) @ weights.T + bias
    labels = logits.argmax(-1)
    planes = [
        [
            (weights[other] - weights[label], row[label] - row[other])
            for other in set(range(4)) - {label}
        ]
        for row, label in zip(logits, labels, strict=True)
    ]
    return net, images, labels, planes


def exact_distances(images, planes, norm):
    """The distance of each image to the nearest of its boundaries."""
    flat = images.reshape(len(images), -1).astype(float)
    return np.array(
        [
            min(_distance(image, weights, gap, norm) for weights, gap in each)
            for image, each in zip(flat, planes, strict=True)
        ]
    )


def _distance(image, weights, gap, norm):
    room = np.where(weights > 0, 1.0 - image, image)
    slope = np.abs(weights)
    if gap >= slope @ room:
        return np.inf
    if norm in ("l1", "l0"):
        # The steepest values first; the largest gains first.
        key = slope if norm == "l1" else slope * room
        order = np.argsort(-key)
        gains = np.cumsum((slope * room)[order])
        place = np.searchsorted(gains, gap, side="right")
        if norm == "l0":
            return place + 1.0
        missing = gap - (gains[place - 1] if place else 0.0)
        return room[order[:place]].sum() + missing / slope[order[place]]

    def moved(reach):
        return np.minimum(reach * (slope if norm == "l2" else 1.0), room)

    reach = scipy.optimize.brentq(lambda t: slope @ moved(t) - gap, 0.0, 100.0)
    return np.linalg.norm(moved(reach), 2 if norm == "l2" else np.inf)
