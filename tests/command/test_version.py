import pytest

import keras_advdef
from keras_advdef_command._version import version


def test_is_that_of_the_package():
    assert version() == keras_advdef.__version__


@pytest.mark.parametrize("arguments", [("--version",), ("demo", "--help")])
def test_needs_no_tensorflow(typed, arguments):
    done = typed(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    expected = keras_advdef.__version__ if len(arguments) == 1 else "--epsilon"
    assert expected in done.stdout
