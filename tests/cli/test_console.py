import io
import os

import pytest

from keras_advdef.cli._console import CommandConsole, OutputClosed
from keras_advdef.cli._print_line import print_line


def test_prints():
    stream = io.StringIO()
    print_line(CommandConsole(file=stream), "a")
    assert stream.getvalue() == "a\n"


def test_tells_that_nobody_reads():
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as file:
        output = CommandConsole(file=file)
        with pytest.raises(OutputClosed):
            print_line(output, "a")
        # Nothing is left in a buffer to fail again; later lines are discarded.
        print_line(output, "b")
        file.write("c")
