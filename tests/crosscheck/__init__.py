"""Our attacks beside those of other libraries, on one small net."""

from typing import Any

import keras
import numpy as np

# Two images of a hundred may fall either way by luck of the random start.
LUCK = 2


def standing(net: keras.Model, digits: Any, count: int = 100) -> tuple[Any, Any]:
    """Test images that the net gets right, and their labels."""
    right = net.predict_on_batch(digits.x_test).argmax(axis=-1) == digits.y_test
    rows = np.flatnonzero(right)[:count]
    assert len(rows) == count
    return digits.x_test[rows], digits.y_test[rows]


def inner(images: np.ndarray) -> np.ndarray:
    """The images away from 0 and 1, where libraries clip in their own order."""
    return 0.2 + 0.6 * images


def broken(net: keras.Model, images: Any, labels: np.ndarray) -> np.ndarray:
    """Which images the net gets wrong."""
    return net.predict_on_batch(np.asarray(images)).argmax(axis=-1) != labels


def norms(images: Any, clean: np.ndarray, order: float) -> np.ndarray:
    """The norm of each perturbation."""
    changes = np.asarray(images) - clean
    return np.linalg.norm(changes.reshape(len(clean), -1), order, axis=1)


def assert_as_strong(
    net: keras.Model, labels: np.ndarray, *, ours: list[Any], theirs: list[Any]
) -> None:
    """Both break some images and not all; ours as many on average, but for luck."""
    our_count, their_count = (
        np.mean([broken(net, images, labels).sum() for images in runs])
        for runs in (ours, theirs)
    )
    assert LUCK < their_count < len(labels) - LUCK, their_count
    assert our_count >= their_count - LUCK, (our_count, their_count)


def assert_as_near(
    our_norms: np.ndarray, their_norms: np.ndarray, *, slack: float = 1.02
) -> None:
    """All of ours succeed, at a median norm that is no larger but for the slack."""
    assert np.isfinite(our_norms).all()
    ours, theirs = np.median(our_norms), np.median(their_norms)
    assert ours <= slack * theirs, (ours, theirs)


def crafted(
    attack: Any, net: keras.Model, images: Any, labels: Any, seed: int = 0
) -> np.ndarray:
    """What an attack of ours makes of the images."""
    return attack.generate(net, images, labels, seed=seed, verbose=0)


def found_norms(attack: Any, net: keras.Model, images: Any, labels: Any) -> np.ndarray:
    """The norms that a minimal attack of ours needs, infinite without success."""
    return attack.search(net, images, labels, seed=0, verbose=0).norms
