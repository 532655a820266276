"""Orders and splits that keep the classes' shares."""

from typing import Any

import numpy as np


def stratified_order(labels: Any, *, seed: int) -> np.ndarray:
    """Draws an order of which every beginning holds the classes in their shares.

    Args:
        labels: Whole numbers of shape `(count,)`.
        seed: Seed of the draw.

    Returns:
        Every index once.

    Example:

    >>> from keras_advdef.cli.data._stratified_split import stratified_order
    >>> labels = np.array([0, 0, 0, 1, 1, 1])
    >>> np.sort(labels[stratified_order(labels, seed=0)][:2])
    array([0, 1])
    """
    labels = np.asarray(labels)
    order = np.random.default_rng(seed).permutation(len(labels))
    # The n-th image of a class of size m gets rank (n + 0.5) / m: the smallest ranks
    # together hold each class in proportion.
    ranks = np.empty(len(labels))
    for label in np.unique(labels):
        members = order[labels[order] == label]
        ranks[members] = (np.arange(len(members)) + 0.5) / len(members)
    return order[np.argsort(ranks[order], kind="stable")]


def stratified_split(
    labels: Any, *, test_count: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Splits indices at random so that every class keeps its share.

    Args:
        labels: Whole numbers of shape `(count,)`.
        test_count: How many go to the test side.
        seed: Seed of the draw.

    Returns:
        `(train, test)`: two sorted integer arrays that together hold every index
        once, `test_count` of them in `test`.

    Example:

    >>> from keras_advdef.cli.data._stratified_split import stratified_split
    >>> train, test = stratified_split([0, 0, 1, 1, 1, 1], test_count=3, seed=0)
    >>> np.array([0, 0, 1, 1, 1, 1])[test]
    array([0, 1, 1])
    """
    order = stratified_order(labels, seed=seed)
    return np.sort(order[test_count:]), np.sort(order[:test_count])
