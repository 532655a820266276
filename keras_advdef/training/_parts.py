"""The parts of a batch, which Keras also takes in structures of one."""

from typing import Any

import keras


def alone(given: Any) -> Any:
    """Returns what stands alone in a list or dictionary, and all else as it is.

    Args:
        given: Images, labels, a loss or another thing.
    """
    leaves = keras.tree.flatten(given)
    return leaves[0] if len(leaves) == 1 else given


def parts_of(data: Any) -> tuple[Any, Any, Any]:
    """Returns the images, labels and weights of a batch, each alone.

    Args:
        data: What Keras hands to a step.
    """
    images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
    return alone(images), alone(labels), alone(weights)
