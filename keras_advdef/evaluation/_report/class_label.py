"""class_label: what readers call a class."""

from collections.abc import Sequence


def class_label(number: int, names: Sequence[str] | None) -> str:
    """Returns the name of a class, or its number if it has none.

    Args:
        number: The class; negative for an image without finite logits.
        names: Names of the classes in the order of their numbers, or `None`.

    Example:

    >>> from keras_advdef.evaluation._report.class_label import class_label
    >>> class_label(1, ["cat", "dog"]), class_label(2, ["cat", "dog"])
    ('dog', '2')
    """
    if number < 0:
        return "none"
    return dict(enumerate(names or ())).get(number, str(number))
