"""The entry point of `keras-advdef`, and what it does without TensorFlow.

Loading the package takes many seconds. Help, the version and every argument that can be
refused by itself are answered here, before `keras_advdef` is imported.
"""

import sys

from keras_advdef_command._process import set_up_process
from keras_advdef_command.extras import missing_extra


def main() -> None:
    """Runs the command line and exits with its code.

    Raises:
        SystemExit: Always, unless there is a bug. 0 for success, 1 for an accuracy
            below the minimum, 2 for bad input or a missing extra, 70 for an unexpected
            error, 130 for Ctrl-C, 141 for output that was closed, 143 for SIGTERM.
    """
    set_up_process()
    try:
        from keras_advdef_command.app import app

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
