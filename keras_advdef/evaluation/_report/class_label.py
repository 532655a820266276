"""class_label: what readers call a class."""

import re
from collections.abc import Sequence

# Not the rank in "targeted at class 1 by likelihood".
_MENTIONED = re.compile(r"\b(class )(\d+)\b(?! by likelihood)", re.IGNORECASE)


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


def named_classes(text: str, names: Sequence[str] | None) -> str:
    """Returns a sentence with the names of the classes that it mentions by number.

    Args:
        text: The sentence.
        names: Names of the classes in the order of their numbers, or `None`.

    Example:

    >>> from keras_advdef.evaluation._report.class_label import named_classes
    >>> named_classes("3 of 9 images of class 1.", ["cat", "dog"])
    '3 of 9 images of class 1 (dog).'
    """
    known = dict(enumerate(names or ()))

    def named(found: re.Match[str]) -> str:
        # A number with many digits is no class, and slow to read.
        number = int(found.group(2)) if len(found.group(2)) < 7 else -1
        name = known.get(number)
        return found.group() if name is None else f"{found.group()} ({name})"

    return _MENTIONED.sub(named, text)
