"""IntervalNet: a classifier as boxes go through it."""

import keras
import tensorflow as tf

from keras_advdef.core._interval_parts import Elementwise, Linear
from keras_advdef.core._interval_steps import Part, Step, Walk
from keras_advdef.core.interval import Interval
from keras_advdef.core.softmax_head import two_class_logits

__all__ = ["IntervalNet", "Linear", "Part", "bent_slopes", "cast"]

# Roundings within a layer that is no linear map.
_ROUNDINGS = 8.0


class IntervalNet:
    """Bounds what a classifier can answer for any image of a box.

    Boxes go from layer to layer (Gowal et al. 2018, arXiv 1810.12715): through linear
    maps by centre and radius, and through rising functions by their ends. The model is
    run as at inference: dropout and augmentation do nothing, and batch normalization
    takes its moving statistics. A softmax or sigmoid at the end is left out.

    Args:
        owner: Name of the caller, for messages.
        model: A built Sequential or functional model with one input and one output.

    Raises:
        ValueError: If it is another model, or has a layer without a rule.

    Example:

    >>> from keras_advdef.core.interval_net import IntervalNet
    >>> dense = keras.layers.Dense(2, kernel_initializer="ones", activation="relu")
    >>> net = IntervalNet("example", keras.Sequential([keras.Input((3,)), dense]))
    >>> box = keras_advdef.core.Interval(tf.zeros((1, 3)), tf.ones((1, 3)))
    >>> net.outputs(box).upper.numpy().tolist()
    [[3.0, 3.0]]
    """

    def __init__(self, owner: str, model: keras.Model) -> None:
        walk = Walk(owner, model)
        self.steps: list[Step] = walk.steps
        self.output = walk.output

    def outputs(self, box: Interval) -> Interval:
        """Returns the box of the logits, as the model's last layer gives them.

        Args:
            box: Of the images, `(batch, ...)`.
        """
        return self.boxes(box)[0][self.output]

    def boxes(
        self, box: Interval, *, unit: float = 0.0, steps: int | None = None
    ) -> tuple[list[Interval], list[tf.Tensor | None]]:
        """Returns the boxes of the images and of each step's output.

        Args:
            box: Of the images.
            unit: Of the arithmetic that the model runs in, for boxes that hold what it
                gives however it rounds; 0 for those of exact numbers.
            steps: How many steps are taken; `None` for all.

        Returns:
            The boxes, and by how much each step's rounding widened its own.
        """
        found, widths = [box], []
        for step in self.steps[:steps]:
            given = [found[number] for number in step.inputs]
            part = cast(step.make(), box.lower.dtype)
            after, width = self.after(part, given, unit)
            found.append(after)
            widths.append(width)
        return found, widths

    @staticmethod
    def after(
        part: Part, given: list[Interval], unit: float
    ) -> tuple[Interval, tf.Tensor | None]:
        """Returns the box after a part, and by how much rounding widened it.

        Args:
            part: Of a step, in the dtype of the boxes.
            given: The boxes of its inputs.
            unit: As for `boxes`.
        """
        rule = part.boxes if isinstance(part, (Linear, Elementwise)) else part
        after = rule(*given)
        if not unit:
            return after, None
        if isinstance(part, Linear):
            width = part.rounding(unit, *given)
        else:
            width = _ROUNDINGS * unit * after.magnitude
        return after.widened(width), width

    def margins(
        self, box: Interval, labels: tf.Tensor, *, unit: float = 0.0
    ) -> tf.Tensor:
        """Returns how far the logit of the label stays above the others, at least.

        A dense last layer is merged into the differences of its logits, which is
        tighter than the difference of their bounds.

        Args:
            box: Of the images.
            labels: Integers `(batch,)`.
            unit: As for `boxes`.

        Returns:
            Lower bounds `(batch, classes)` of the label's logit minus each; 0 for
            itself.
        """
        merged = self._merged_layer(box.lower.dtype)
        if merged is not None:
            found, _ = self.boxes(box, unit=unit, steps=self.output - 1)
            before = found[self.steps[self.output - 1].inputs[0]]
            margins = _merged(merged, before, labels, unit)
        else:
            found, _ = self.boxes(box, unit=unit)
            ends = Interval(*map(two_class_logits, found[self.output]))
            own = tf.gather(ends.lower, labels, batch_dims=1)
            margins = own[:, tf.newaxis] - ends.upper
        own = tf.one_hot(labels, margins.shape[1], on_value=True, off_value=False)
        return tf.where(own, tf.zeros((), margins.dtype), margins)

    def _merged_layer(self, dtype: tf.DType) -> Linear | None:
        """Returns the last layer if its outputs are sums of weighted inputs."""
        part = cast(self.steps[self.output - 1].make(), dtype) if self.output else None
        if isinstance(part, Linear) and part.apply is tf.linalg.matmul:
            return part
        return None


def _merged(part: Linear, box: Interval, labels: tf.Tensor, unit: float) -> tf.Tensor:
    """Bounds of the differences of a dense layer's outputs."""
    kernel = two_class_logits(part.kernel)
    apart = tf.gather(kernel, labels, axis=1)[:, :, tf.newaxis] - kernel[:, tf.newaxis]
    # (features, batch, classes)
    margins = tf.einsum("bf,fbc->bc", box.centre, apart)
    margins -= tf.einsum("bf,fbc->bc", box.radius, tf.abs(apart))
    if part.offset is not None:
        offset = two_class_logits(part.offset[tf.newaxis])[0]
        margins += tf.gather(offset, labels)[:, tf.newaxis] - offset
    if unit:
        width = two_class_logits(part.rounding(unit, box))
        own = tf.gather(width, labels, batch_dims=1)
        margins -= own[:, tf.newaxis] + width
    return margins


def cast(part: Part, dtype: tf.DType) -> Part:
    """Returns a part with weights of a dtype.

    Args:
        part: Of a step.
        dtype: Of the boxes.

    Example:

    >>> from keras_advdef.core.interval_net import cast
    >>> cast(len, tf.float32) is len
    True
    """
    return part.cast(dtype) if isinstance(part, Linear) else part


def bent_slopes(part: Part) -> tuple[float, float] | None:
    """Returns the slopes below and above 0 of a part that is straight on both sides.

    Args:
        part: Of a step.

    Example:

    >>> from keras_advdef.core.interval_net import bent_slopes
    >>> bent_slopes(len) is None
    True
    """
    return part.slopes if isinstance(part, Elementwise) else None
