"""Loads the data sets that Keras can download."""

import contextlib
import gzip
import pickle
import socket
from collections.abc import Iterator
from types import TracebackType

import keras

from keras_advdef.core.data.dataset import Dataset
from keras_advdef.core.errors import invalid
from keras_advdef.core.untrusted import read_errors_as

_TIMEOUT_SECONDS = 30.0


class _LoadFailure:
    """Turns a failed download into an `OSError` that says what to do.

    A damaged file in Keras's cache becomes a `ValueError`. `keras.utils.get_file`
    raises a plain `Exception` while it handles the network's error, so the chain of
    causes, not the class, identifies a failed download.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        cause = error
        while cause is not None and not _is_of_network(cause):
            cause = cause.__context__
        if cause is not None:
            raise OSError(
                f"`--data {self._name}` could not be downloaded ({cause}). "
                "`--data path.npz` with your own copy, or `--data digits`, works "
                "offline."
            ) from error
        if error is not None:
            pickled = (pickle.UnpicklingError,)
            with read_errors_as(self._refusal, "Keras says: {}.", also=pickled):
                raise error

    def _refusal(self, advice: str) -> ValueError:
        rule = "a data set that is intact in Keras's cache"
        advice += f" Remove the files of {self._name} in ~/.keras/datasets."
        return invalid("keras-advdef", "--data", rule, self._name, advice=advice)


def _is_of_network(error: BaseException) -> bool:
    return isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile)


@contextlib.contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def load_keras_dataset(name: str) -> Dataset:
    """Loads a data set of `keras.datasets`, from its cache if possible.

    Args:
        name: "mnist", "fashion_mnist" or "cifar10".

    Returns:
        The whole data set.

    Raises:
        OSError: If it cannot be downloaded.
        ValueError: If a file in the cache is damaged.
    """
    module = getattr(keras.datasets, name)
    with _LoadFailure(name), _socket_timeout(_TIMEOUT_SECONDS):
        (x_train, y_train), (x_test, y_test) = module.load_data()
    return Dataset.from_arrays(
        name, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test
    )
