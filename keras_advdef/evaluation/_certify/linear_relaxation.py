"""Bounds by linear relaxation: CROWN (Zhang et al., NeurIPS 2018)."""

import math

import numpy as np
import tensorflow as tf

from keras_advdef.core.interval import Interval
from keras_advdef.core.interval_net import IntervalNet, Linear, Part, bent_slopes, cast

# Coefficients that are held at once.
_MOST = 2**24


class LinearRelaxation:
    """Bounds a classifier's margins by lines through its activations.

    From the margins, coefficients go back layer by layer: through linear maps exactly,
    and through an activation with a bend by the line below or above it that its bounds
    allow. A layer of another kind is entered from the box of its output, so nothing
    behind it is tighter than intervals. Bounds of each activation's input are found in
    the same way first.

    Args:
        net: The classifier.
        box: Of the images, float64.
        unit: Of the arithmetic that the model runs in.
    """

    def __init__(self, net: IntervalNet, box: Interval, *, unit: float) -> None:
        self._net = net
        self._parts: list[Part] = [
            cast(step.make(), box.lower.dtype) for step in net.steps
        ]
        self._boxes, self._widths = [box], []
        bent = {
            step.inputs[0]
            for step, part in zip(net.steps, self._parts, strict=True)
            if bent_slopes(part)
        }
        for number, step in enumerate(net.steps, 1):
            given = [self._boxes[each] for each in step.inputs]
            after, width = net.after(self._parts[number - 1], given, unit)
            self._boxes.append(after)
            self._widths.append(width)
            if number in bent and self._is_relaxed_before(number):
                self._boxes[number] = self._tightened(number)

    def _is_relaxed_before(self, number: int) -> bool:
        """Whether an activation lies before: boxes of linear maps are exact."""
        waiting = [number]
        while waiting:
            each = waiting.pop()
            if each:
                if not isinstance(self._parts[each - 1], Linear):
                    return True
                waiting += self._net.steps[each - 1].inputs
        return False

    def _tightened(self, number: int) -> Interval:
        """Returns the box of a value, smaller where it crosses 0 for some image."""
        box = self._boxes[number]
        shape = box.lower.shape
        units = math.prod(shape[1:])
        lower, upper = (
            np.array(tf.reshape(end, (-1, units))) for end in (box.lower, box.upper)
        )
        places = np.flatnonzero(((lower < 0.0) & (upper > 0.0)).any(axis=0))
        widest = max(math.prod(each.lower.shape[1:]) for each in self._boxes)
        size = max(1, _MOST // (2 * widest * shape[0]))
        for start in range(0, len(places), size):
            chosen = places[start : start + size]
            rows = tf.one_hot(chosen, units, dtype=box.lower.dtype)
            rows = tf.reshape(rows, (1, len(chosen), *shape[1:]))
            rows = tf.repeat(rows, shape[0], axis=0)
            found = self.least(number, tf.concat([rows, -rows], axis=1)).numpy()
            below, above = np.split(found, 2, axis=1)
            lower[:, chosen] = np.maximum(lower[:, chosen], below)
            upper[:, chosen] = np.minimum(upper[:, chosen], -above)
        # Rounding may cross bounds that meet.
        upper = np.maximum(lower, upper)
        return Interval(tf.reshape(lower, shape), tf.reshape(upper, shape))

    def margins(self, labels: tf.Tensor) -> tf.Tensor:
        """Returns lower bounds of the label's logit minus each, `(batch, classes)`.

        Args:
            labels: Integers `(batch,)`.
        """
        dtype = self._boxes[0].lower.dtype
        units = self._boxes[self._net.output].lower.shape[1]
        classes = max(2, units)
        own = tf.one_hot(labels, classes, dtype=dtype)[:, tf.newaxis]
        rows = own - tf.eye(classes, dtype=dtype)
        # One logit z stands for the logits 0 and z.
        return self.least(self._net.output, rows[:, :, -units:])

    def least(self, number: int, rows: tf.Tensor) -> tf.Tensor:
        """Returns lower bounds of linear functions of a value.

        Args:
            number: Of the value.
            rows: Their coefficients, `(batch, functions, ...)`.

        Returns:
            Tensor `(batch, functions)`.
        """
        waiting = {number: rows}
        total = tf.zeros(rows.shape[:2], rows.dtype)
        for place in range(number, 0, -1):
            rows = waiting.pop(place, None)
            if rows is None:
                continue
            part, slopes = self._parts[place - 1], bent_slopes(self._parts[place - 1])
            inputs = self._net.steps[place - 1].inputs
            if isinstance(part, Linear):
                if part.offset is not None:
                    total += _summed(rows * part.offset)
                found = self._back(part, inputs, rows)
            elif slopes is not None:
                found, offset = _relaxed(slopes, self._boxes[inputs[0]], rows)
                total += offset
            else:
                total += _least_in(self._boxes[place], rows)
                continue
            total -= self._rounding(place, rows)
            for each, new in zip(inputs, found, strict=True):
                waiting[each] = waiting[each] + new if each in waiting else new
        return total + (_least_in(self._boxes[0], waiting[0]) if waiting else 0.0)

    def _rounding(self, place: int, rows: tf.Tensor) -> tf.Tensor:
        width = self._widths[place - 1]
        return 0.0 if width is None else _summed(tf.abs(rows) * width[:, tf.newaxis])

    def _back(
        self, part: Linear, inputs: tuple[int, ...], rows: tf.Tensor
    ) -> list[tf.Tensor]:
        """Returns the coefficients of a linear map's inputs."""
        count = rows.shape[0] * rows.shape[1]
        shapes = [self._boxes[each].lower.shape[1:] for each in inputs]
        points = [tf.zeros((count, *shape), rows.dtype) for shape in shapes]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(points)
            outputs = part(*points)
        given = tf.reshape(rows, outputs.shape)
        slopes = tape.gradient(outputs, points, output_gradients=given)
        return [
            tf.reshape(slope, (*rows.shape[:2], *shape))
            for slope, shape in zip(slopes, shapes, strict=True)
        ]


def _summed(rows: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(rows, axis=range(2, len(rows.shape)))


def _least_in(box: Interval, rows: tf.Tensor) -> tf.Tensor:
    """The least of linear functions in a box."""
    centre, radius = (each[:, tf.newaxis] for each in (box.centre, box.radius))
    return _summed(rows * centre - tf.abs(rows) * radius)


def _relaxed(
    slopes: tuple[float, float], box: Interval, rows: tf.Tensor
) -> tuple[list[tf.Tensor], tf.Tensor]:
    """The coefficients before an activation with a bend, and what is added."""
    below, above = (tf.constant(each, rows.dtype) for each in slopes)
    lower, upper = tf.minimum(box.lower, 0.0), tf.maximum(box.upper, 0.0)
    span = tf.maximum(upper - lower, 1e-300)
    chord = (above * upper - below * lower) / span
    flat = tf.where(upper > -lower, above, below)
    # Where the bend is outside, both are the function.
    is_over, is_under = box.lower >= 0.0, box.upper <= 0.0
    chord = tf.where(is_over, above, tf.where(is_under, below, chord))
    flat = tf.where(is_over, above, tf.where(is_under, below, flat))
    height = tf.where(is_over | is_under, 0.0, (above - chord) * upper)
    rising, falling = tf.maximum(rows, 0.0), tf.minimum(rows, 0.0)
    found = rising * flat[:, tf.newaxis] + falling * chord[:, tf.newaxis]
    return [found], _summed(falling * height[:, tf.newaxis])
