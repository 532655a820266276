"""Checks the shape of images when a layer is built."""

from collections.abc import Collection, Sequence

from keras_advdef.core.errors import invalid


def checked_image_shape(
    owner: str,
    shape: Sequence[int | None],
    *,
    smallest: int = 1,
    channels: Collection[int] = (),
) -> tuple[int, int, int]:
    """Returns rows, columns and channels, or raises if a layer does not support them.

    Args:
        owner: Name of the layer that checks.
        shape: Shape of a batch, `(batch, rows, cols, channels)`.
        smallest: Fewest rows and columns.
        channels: Supported numbers of channels; empty for any.

    Returns:
        Three integers.

    Raises:
        ValueError: If a size is unknown or too small, or the channels are not
            supported.

    Example:

    >>> keras_advdef.layers._image_shape.checked_image_shape("Layer", (None, 8, 9, 3))
    (8, 9, 3)
    """
    rows, columns, depth = shape[1:]
    if rows is None or columns is None or depth is None:
        advice = "Give the model an `Input` with all three sizes of the images."
        rule = "a batch of images of known size"
        raise invalid(owner, "images", rule, tuple(shape), advice=advice)
    if min(rows, columns) < smallest:
        rule = f"images of at least {smallest} x {smallest} pixels"
        raise invalid(owner, "images", rule, tuple(shape))
    if channels and depth not in channels:
        listed = " or ".join(map(str, channels))
        raise invalid(owner, "images", f"images of {listed} channels", tuple(shape))
    return rows, columns, depth
