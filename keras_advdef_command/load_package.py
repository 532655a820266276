"""Loads `keras_advdef`, with TensorFlow's start-up lines kept off the terminal."""

import contextlib
import faulthandler
import os
import sys
import tempfile
from collections.abc import Iterator

_STDERR = 2


def load_package(*, verbose: bool) -> None:
    """Imports `keras_advdef` and lets TensorFlow look for its devices.

    Both make TensorFlow and absl print, at every level of their logs: on the processor,
    on missing drivers, on GPUs that do not answer. What they print is shown only if
    `verbose`, or if loading fails.

    Args:
        verbose: Whether to show TensorFlow's messages, now and later.

    Raises:
        SystemExit: With code 2, after a line that says why, if an import fails.
    """
    if "keras_advdef" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0" if verbose else "2")
    try:
        with contextlib.nullcontext() if verbose else kept_back():
            import keras_advdef  # noqa: F401 - registers the classes of the package

            _find_devices()
    except ImportError as error:
        sys.stderr.write(f"keras-advdef cannot be loaded: {error}\n")
        sys.exit(2)


def _find_devices() -> None:
    import tensorflow as tf

    tf.config.list_logical_devices()


@contextlib.contextmanager
def kept_back() -> Iterator[None]:
    """Keeps back what is written to standard error, and shows it if the body fails.

    Native code writes to the file descriptor, so that is what leads elsewhere: into a
    file without a name, of which nothing is left however the process ends. If a fatal
    signal ends it, the Python stack is shown, as the file can no longer be read.

    Yields:
        Nothing.
    """
    try:
        log = tempfile.TemporaryFile()  # noqa: SIM115 - below
    except OSError:  # Without a place for it, all is shown.
        yield
        return
    sys.stderr.flush()
    terminal = os.dup(_STDERR)
    was_enabled = faulthandler.is_enabled()
    with log:
        faulthandler.enable(terminal)
        os.dup2(log.fileno(), _STDERR)
        try:
            yield
        except BaseException:
            _restore(terminal)
            log.seek(0)
            with contextlib.suppress(OSError), open(terminal, "wb", closefd=False) as f:
                f.write(log.read())
            raise
        finally:
            _restore(terminal)
            if was_enabled:
                faulthandler.enable(_STDERR)
            else:
                faulthandler.disable()
            os.close(terminal)


def _restore(terminal: int) -> None:
    sys.stderr.flush()
    os.dup2(terminal, _STDERR)
