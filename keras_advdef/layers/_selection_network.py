"""Compare-exchange networks that select the value of one rank."""


def selection_network(count: int, rank: int) -> list[tuple[int, int]]:
    """Returns exchanges that bring the value of one rank to its position.

    They are the exchanges of Batcher's odd-even merge sort (1968) that this position
    depends on. Each one puts the smaller value at its first position and the larger one
    at its second: elementwise minima and maxima, without a sort.

    Args:
        count: Number of values.
        rank: Position in ascending order, from 0.

    Returns:
        Pairs of positions, in the order to apply them.

    Example:

    >>> keras_advdef.layers._selection_network.selection_network(3, 1)
    [(0, 1), (0, 2), (1, 2)]
    """
    needed, kept = {rank}, []
    for low, high in reversed(_sorting_network(count)):
        if low in needed or high in needed:
            needed |= {low, high}
            kept.append((low, high))
    return kept[::-1]


def _sorting_network(count: int) -> list[tuple[int, int]]:
    """Implements Knuth, The Art of Computer Programming 3, algorithm 5.2.2 M."""
    exchanges = []
    size = 1
    while size < count:
        step = size
        while step >= 1:
            for start in range(step % size, count - step, 2 * step):
                for low in range(start, min(start + step, count - step)):
                    if low // (2 * size) == (low + step) // (2 * size):
                        exchanges.append((low, low + step))
            step //= 2
        size *= 2
    return exchanges
