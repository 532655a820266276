"""The software versions behind a report."""

import platform
from importlib.metadata import version

import keras_advdef

_PACKAGES = ("keras", "tensorflow", "numpy")


def versions() -> dict[str, str]:
    """Returns the versions of this package, Python, and the main dependencies.

    Example:

    >>> from keras_advdef.core.versions import versions
    >>> list(versions())
    ['keras_advdef', 'python', 'keras', 'tensorflow', 'numpy']
    """
    return {
        "keras_advdef": keras_advdef.__version__,
        "python": platform.python_version(),
        **{package: version(package) for package in _PACKAGES},
    }
