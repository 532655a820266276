"""Remembers what a model gave for certain images, for who asks without a pass more."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

# The tensor that is watched, and what was called on it with which logits.
_Looks = list[tuple[Any, tf.Tensor]]


class _Watched(threading.local):
    images: Any = None
    looks: _Looks | None = None


_watched = _Watched()


@contextlib.contextmanager
def watched(images: tf.Tensor) -> Iterator[_Looks]:
    """Collects the logits that models give for one tensor while the body runs.

    Only a call on that very tensor counts, in the same graph, so that the logits can
    be used behind the body.

    Args:
        images: The tensor.

    Yields:
        A list of pairs, the logits function and its logits, that grows.

    Example:

    >>> from keras_advdef.core.watched_logits import watched
    >>> logits_fn = keras_advdef.core.logits.LogitsFunction(lambda images: 2.0 * images)
    >>> images = tf.ones((1, 2))
    >>> with watched(images) as looks:
    ...     _ = logits_fn(images), logits_fn(images + 1.0)
    >>> [logits.numpy().tolist() for _, logits in looks]
    [[[2.0, 2.0]]]
    """
    before = _watched.images, _watched.looks
    looks: _Looks = []
    _watched.images, _watched.looks = images, looks
    try:
        yield looks
    finally:
        _watched.images, _watched.looks = before


def note(logits_fn: Any, images: tf.Tensor, logits: tf.Tensor) -> None:
    """Tells whoever watches the images what a logits function gave for them.

    Args:
        logits_fn: The function.
        images: What it was called on.
        logits: What it returned.

    Example:

    >>> from keras_advdef.core.watched_logits import note
    >>> note(len, tf.ones((1, 2)), tf.ones((1, 2)))
    """
    looks = _watched.looks
    if looks is None or images is not _watched.images:
        return
    # The body of a loop is a graph of its own, and its tensors stay there.
    if tf.executing_eagerly() or logits.graph is images.graph:
        looks.append((logits_fn, logits))
