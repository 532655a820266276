"""The command line: `keras-advdef`."""

import os
import sys

# Import names of what the extra `all` installs.
_EXTRA = ("PIL", "jinja2", "matplotlib", "rich", "sklearn", "typer")


def main() -> None:
    """Runs the command line and leaves with its exit code.

    The extra `all` is imported here and not with the package, so that the library
    works without it.

    Raises:
        SystemExit: Always; 0 for success, 2 for bad input or a missing extra, 130
            for Ctrl-C.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        from keras_advdef.cli.app import app

        app(prog_name="keras-advdef")
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRA:
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
