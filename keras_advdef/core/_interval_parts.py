"""What boxes go through: linear maps, and functions of single values."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_advdef.core.interval import Interval

Apply = Callable[..., tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Linear:
    """A linear map plus an offset.

    Attributes:
        apply: From inputs, and the kernel if there is one, to the output without the
            offset. Linear in the inputs; its absolute values come from the kernel's.
        kernel: Weights, or `None` if the map has none and its factors are at least 0.
        offset: Added to the output, or `None`.
        terms: Most products that one output sums; `None` for one of each place of an
            image.
    """

    apply: Apply
    kernel: Any = None
    offset: Any = None
    terms: int | None = 0

    def cast(self, dtype: tf.DType) -> "Linear":
        """Returns the map with weights of a dtype."""

        def converted(value: Any) -> Any:
            return value if value is None else tf.cast(value, dtype)

        return dataclasses.replace(
            self, kernel=converted(self.kernel), offset=converted(self.offset)
        )

    def shifted(self, output: tf.Tensor) -> tf.Tensor:
        """Returns an output with the offset."""
        return output if self.offset is None else output + self.offset

    def __call__(self, *inputs: tf.Tensor) -> tf.Tensor:
        """Returns the map of inputs, without the offset."""
        if self.kernel is None:
            return self.apply(*inputs)
        return self.apply(*inputs, self.kernel)

    def absolute(self, *inputs: tf.Tensor) -> tf.Tensor:
        """Returns the map whose every factor is its absolute value."""
        if self.kernel is None:
            return self.apply(*inputs)
        return self.apply(*inputs, tf.abs(self.kernel))

    def boxes(self, *boxes: Interval) -> Interval:
        """Returns the smallest box of the outputs."""
        if self.kernel is None:
            ends = (self(*(each[side] for each in boxes)) for side in (0, 1))
            return Interval(*map(self.shifted, ends))
        centre = self.shifted(self(*(each.centre for each in boxes)))
        radius = self.absolute(*(each.radius for each in boxes))
        return Interval(centre - radius, centre + radius)

    def rounding(self, unit: float, *boxes: Interval) -> tf.Tensor:
        """Returns by how much rounding can move an output, in any order of summation.

        Args:
            unit: Of the arithmetic, half the distance from 1 to the next number.
            *boxes: What the inputs are in.
        """
        total = self.absolute(*(each.magnitude for each in boxes))
        if self.offset is not None:
            total += tf.abs(self.offset)
        # Higham 2002, lemma 3.1; one more for the product, the offset, and the bounds'
        # own arithmetic where that is no finer.
        terms = self.terms
        if terms is None:
            terms = math.prod(boxes[0].lower.shape[1:-1])
        share = 2.0 * (terms + 2) * unit
        return total * (share / (1.0 - share))


@dataclasses.dataclass(frozen=True)
class Elementwise:
    """A function of single values: rising, or falling to one lowest value, then rising.

    Attributes:
        function: From a tensor to one of the same shape and dtype.
        lowest: Where it is lowest, or `None` if it rises everywhere.
        slopes: Of a convex function through 0, bent there and straight otherwise: its
            slopes below and above; `None` for others.
    """

    function: Callable[[tf.Tensor], tf.Tensor]
    lowest: float | None = None
    slopes: tuple[float, float] | None = None

    def boxes(self, box: Interval) -> Interval:
        """Returns the smallest box of the outputs."""
        lower, upper = self.function(box.lower), self.function(box.upper)
        if self.lowest is None:
            return Interval(lower, upper)
        bend = tf.constant(self.lowest, box.lower.dtype)
        # The rounded place is not quite the lowest one.
        floor = self.function(bend) - 1e-6
        is_inside = (box.lower < bend) & (bend < box.upper)
        least = tf.where(is_inside, floor, tf.minimum(lower, upper))
        return Interval(least, tf.maximum(lower, upper))
