"""Which outcomes occur in many draws with replacement, without a loop over draws."""

import tensorflow as tf

from keras_advdef.core.random_numbers import fold_in
from keras_advdef.layers._bulk_random import bulk_uniform, unit_log
from keras_advdef.layers._compiled import compiled

# A Poisson variable deviates from its mean by more standard deviations with
# probability 1e-9.
_MARGIN = 6.0
# A Poisson variable with at most this mean is below the limit, up to 1e-11.
_CELL_MEAN, _CELL_LIMIT = 4.0, 24
# Outcomes that share one entry of the cumulative sum.
_ROW = 16


def drawn_outcomes(
    key: tf.Tensor, weights: tf.Tensor, draws: int | tf.Tensor
) -> tf.Tensor:
    """Returns which outcomes occur at least once in draws with replacement.

    The joint distribution is that of multinomial counts, up to float32 rounding and an
    event of probability 1e-9. The work grows with outcomes plus draws and runs in
    parallel. Each outcome is a Poisson process. It occurs if its first arrival, an
    exponential time, falls into a period that almost surely has fewer arrivals than
    `draws`. One Poisson variable gives the number of repeats. The remaining draws,
    about `6 * sqrt(draws)`, are made one by one.

    Args:
        key: Int64 tensor of shape `(2,)`.
        weights: Float32 tensor of shape `(batch, outcomes)`, at least 0. An outcome is
            drawn with probability proportional to its weight.
        draws: Number of draws, at least 1; a number, or a scalar tensor.

    Returns:
        Boolean tensor of shape `(batch, outcomes)`; false where the weight is 0.

    Example:

    >>> from keras_advdef.layers._multinomial import drawn_outcomes
    >>> from keras_advdef.core.random_numbers import make_key
    >>> weights = tf.constant([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    >>> drawn_outcomes(make_key(0), weights, 50).numpy()
    array([[ True, False,  True],
           [False, False, False]])
    """
    # XLA on a CPU is slow at sums fused with other work, at two sums at once and at
    # scattering, so these are separate kernels.
    leads = _leads(key, weights, draws)
    left, places = _rest(key, weights, leads, _positives(leads), draws)
    # On a GPU, int32 arithmetic runs in host memory; int64 arithmetic does not.
    batch, outcomes = tf.unstack(tf.shape(weights, out_type=tf.int64))
    places = tf.range(batch)[:, None] * outcomes + tf.cast(places, tf.int64)
    hits = tf.math.unsorted_segment_max(left, places, batch * outcomes)
    hits = tf.reshape(hits > 0.0, tf.shape(weights))
    return ((leads > 0.0) | hits) & (weights > 0.0)


@compiled
def _leads(key: tf.Tensor, weights: tf.Tensor, draws: int | tf.Tensor) -> tf.Tensor:
    """Returns the time left after each outcome's first arrival, in its mean gaps."""
    total = tf.reduce_sum(weights, axis=1, keepdims=True)
    shares = tf.math.divide_no_nan(weights, total)
    waits = -unit_log(1.0 - bulk_uniform(fold_in(key, 0), tf.shape(weights)))
    time = tf.nn.relu(_count(draws) - _margin(draws))
    return time * shares - waits


@compiled
def _positives(leads: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.cast(leads > 0.0, tf.float32), axis=1)


@compiled
def _rest(
    key: tf.Tensor,
    weights: tf.Tensor,
    leads: tf.Tensor,
    seen: tf.Tensor,
    draws: int | tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns more single draws than needed: whether each counts, and its outcome."""
    # After its first arrival, an outcome occurs again at the same rate.
    again = _poisson(fold_in(key, 1), tf.reduce_sum(tf.nn.relu(leads), axis=1), draws)
    left = _count(draws) - seen - again
    most = tf.math.ceil(tf.minimum(_count(draws), 2.0 * _margin(draws)))
    places = _single_draws(fold_in(key, 2), weights, tf.cast(most, tf.int32))
    return tf.cast(tf.range(most) < left[:, None], tf.float32), places


def _count(draws: int | tf.Tensor) -> tf.Tensor:
    return tf.cast(draws, tf.float32)


def _margin(draws: int | tf.Tensor) -> tf.Tensor:
    return _MARGIN * tf.sqrt(_count(draws))


def _poisson(key: tf.Tensor, means: tf.Tensor, largest: int | tf.Tensor) -> tf.Tensor:
    """Returns a Poisson variable for each mean, as a sum of many with small means."""
    cells = tf.math.ceil(_count(largest) / _CELL_MEAN)
    mean = (means / cells)[:, None]
    draws = bulk_uniform(key, [tf.shape(means)[0], tf.cast(cells, tf.int32)])
    exactly, at_least = tf.exp(-mean), -tf.math.expm1(-mean)
    counts = tf.zeros_like(draws)
    for number in range(1, _CELL_LIMIT):
        counts += tf.cast(draws < at_least, tf.float32)
        exactly *= mean / number
        at_least -= exactly
    return tf.reduce_sum(counts, axis=1)


def _single_draws(key: tf.Tensor, weights: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Returns the outcomes of `count` draws for each row of weights, in two levels."""
    batch, outcomes = tf.unstack(tf.shape(weights))
    padded = tf.pad(weights, [[0, 0], [0, -outcomes % _ROW]])
    rows = tf.reshape(padded, [batch, -1, _ROW])
    # A float32 sum would lose outcomes of small weight to rounding.
    cumulative = tf.cumsum(tf.cast(tf.reduce_sum(rows, axis=2), tf.float64), axis=1)
    coarse, fine, within = tf.unstack(bulk_uniform(key, [3, batch, count]))
    share = tf.cast(coarse, tf.float64) + 2.0**-24 * tf.cast(fine, tf.float64)
    row = _first_above(cumulative, share * cumulative[:, -1:])
    weight = tf.gather(rows, row, batch_dims=1)
    sums = [weight[..., 0]]
    for index in range(1, _ROW):
        sums.append(sums[-1] + weight[..., index])
    target = within * sums[-1]
    place = tf.add_n([tf.cast(each <= target, tf.int32) for each in sums[:-1]])
    return tf.minimum(row * _ROW + place, outcomes - 1)


def _first_above(cumulative: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Returns where each row first exceeds its targets, by bisection."""

    def halve(low: tf.Tensor, high: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        middle = (low + high) // 2
        above = tf.gather(cumulative, middle, batch_dims=1) > targets
        return tf.where(above, low, middle + 1), tf.where(above, middle, high)

    low = tf.zeros(tf.shape(targets), tf.int32)
    high = low + tf.shape(cumulative)[1] - 1
    low, _ = tf.while_loop(
        lambda low, high: tf.reduce_any(low < high), halve, (low, high)
    )
    return low
