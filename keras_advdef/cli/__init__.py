"""The command line: `keras-advdef`."""

import os
import sys

# Import names of what the extra `all` installs.
_EXTRA = ("PIL", "jinja2", "matplotlib", "rich", "sklearn", "typer")


def missing_extra(error: BaseException) -> str | None:
    """Returns the package of the extra `all` whose absence made an import fail.

    Args:
        error: Any error.

    Returns:
        Its import name, or `None` if the error has another cause.
    """
    if not isinstance(error, ModuleNotFoundError):
        return None
    package = (error.name or "").partition(".")[0]
    return package if package in _EXTRA else None


def main() -> None:
    """Runs the command line and exits with its code.

    What the extra `all` installs is imported here and not with the package, so that
    the library works without it.

    Raises:
        SystemExit: Always, unless there is a bug. 0 for success, 1 for an accuracy
            below the minimum, 2 for bad input or a missing extra, 70 for an unexpected
            error, 130 for Ctrl-C, 141 for output that was closed, 143 for SIGTERM.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        from keras_advdef.cli.app import app

        app(prog_name="keras-advdef")
    except ModuleNotFoundError as error:
        package = missing_extra(error)
        if package is None:
            raise
        sys.stderr.write(
            f"keras-advdef needs `{package}`, which is not installed: run "
            '`python -m pip install "keras_advdef[all]"`, or '
            '`python -m pip install -e ".[all]"` in a checkout.\n'
        )
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted.\n")
        sys.exit(130)
