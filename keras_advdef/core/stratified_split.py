"""Random orders and splits, stratified by class."""

import numpy as np
from numpy.typing import ArrayLike


def stratified_order(labels: ArrayLike, *, seed: int) -> np.ndarray:
    """Draws a random order whose first n are stratified by class, for every n.

    Args:
        labels: Whole numbers of shape `(count,)`.
        seed: Seed of the draw.

    Returns:
        A permutation of the indices.

    Example:

    >>> from keras_advdef.core.stratified_split import stratified_order
    >>> labels = np.array([0, 0, 0, 1, 1, 1])
    >>> np.sort(labels[stratified_order(labels, seed=0)][:2])
    array([0, 1])
    """
    labels = np.asarray(labels)
    order = np.random.default_rng(seed).permutation(len(labels))
    # The n-th image of a class of size m gets rank (n + 0.5) / m, so the smallest ranks
    # hold each class in proportion.
    ranks = np.empty(len(labels))
    for label in np.unique(labels):
        members = order[labels[order] == label]
        ranks[members] = (np.arange(len(members)) + 0.5) / len(members)
    return order[np.argsort(ranks[order], kind="stable")]


def stratified_split(
    labels: ArrayLike, *, test_count: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Splits indices at random, stratified by class.

    Args:
        labels: Whole numbers of shape `(count,)`.
        test_count: Size of the test part.
        seed: Seed of the draw.

    Returns:
        `(train, test)`: two sorted integer arrays that together hold every index
        once.

    Example:

    >>> from keras_advdef.core.stratified_split import stratified_split
    >>> train, test = stratified_split([0, 0, 1, 1, 1, 1], test_count=3, seed=0)
    >>> np.array([0, 0, 1, 1, 1, 1])[test]
    array([0, 1, 1])
    """
    order = stratified_order(labels, seed=seed)
    return np.sort(order[test_count:]), np.sort(order[:test_count])
