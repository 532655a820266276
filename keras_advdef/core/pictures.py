"""Pictures inside an HTML page, as data URLs."""

import base64
import io
from collections.abc import Callable
from typing import Any


def data_url(write: Callable[[io.BytesIO], object]) -> str:
    """Returns a PNG image as a data URL.

    Args:
        write: Writes the image to a file.

    Example:

    >>> from keras_advdef.core.pictures import data_url
    >>> data_url(lambda file: file.write(b"png"))
    'data:image/png;base64,cG5n'
    """
    buffer = io.BytesIO()
    write(buffer)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def figure_url(figure: Any, *, dpi: int) -> str:
    """Returns a matplotlib figure as a data URL.

    Args:
        figure: The figure.
        dpi: Pixels per inch.
    """
    return data_url(lambda buffer: figure.savefig(buffer, format="png", dpi=dpi))
