"""How much of this package an image passes on its way to the user's net.

python benchmarks/trip_length.py

Counts files and functions, takes no time, and needs public names only, so that it runs
at any commit.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

import keras
import numpy as np

import keras_advdef

_PACKAGE = str(Path(keras_advdef.__file__).parent)
_HEADER = ("entry", "frames", "files", "functions entered", "their files")


class Trip(NamedTuple):
    """What a call runs through.

    Attributes:
        stack: File and function of each of the package's frames between the call and
            the net, from the outside in, at the net's deepest call.
        entered: The package's functions that ran before the call returned.
    """

    stack: list[tuple[str, str]]
    entered: set[tuple[str, str]]

    @property
    def row(self) -> tuple[int, int, int, int]:
        """The frames and their files, the functions entered and their files."""
        counted = (list(self.stack), self.entered)
        return tuple(n for each in counted for n in (len(each), files(each)))


def files(functions: Any) -> int:
    """Returns in how many files functions stand."""
    return len({file for file, _ in functions})


class RecordingNet(keras.Model):
    """A net that keeps the stack of the deepest call it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.head = keras.layers.Dense(3)
        self.flatten = keras.layers.Flatten()
        self.stack: list[tuple[str, str]] = []

    def call(self, images: Any) -> Any:
        """Returns logits, and keeps the stack if it is the deepest."""
        stack = [_place(code) for code in _own_code(sys._getframe())][::-1]
        if len(stack) > len(self.stack):
            # As a tuple Keras would track it, and a list it would wrap.
            object.__setattr__(self, "stack", stack)
        return self.head(self.flatten(images))


def _own_code(frame: FrameType | None) -> Iterator[CodeType]:
    while frame is not None:
        if frame.f_code.co_filename.startswith(_PACKAGE):
            yield frame.f_code
        frame = frame.f_back


def _place(code: CodeType) -> tuple[str, str]:
    return str(Path(code.co_filename).relative_to(_PACKAGE)), code.co_qualname


def trip(call: Callable[[RecordingNet], Any]) -> Trip:
    """Returns what a call of the package runs through on its way to the net.

    Args:
        call: Hands the net it is given to the package.
    """
    net = RecordingNet()
    net(np.zeros((1, 8, 8, 1), "float32"))
    entered = set()

    def profile(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(_PACKAGE):
            entered.add(_place(frame.f_code))

    sys.setprofile(profile)
    try:
        call(net)
    finally:
        sys.setprofile(None)
    return Trip(net.stack, entered)


def trips() -> dict[str, Trip]:
    """Returns the trips of an attack in both its forms, and of a training step."""
    images = np.full((4, 8, 8, 1), 0.5, "float32")
    labels = np.array([0, 1, 2, 0])
    attack = keras_advdef.attacks.PGD(0.1, steps=5)

    def fit(net: RecordingNet) -> None:
        model = keras_advdef.training.AdversarialTrainingModel(
            net, attack, keras_advdef.objectives.AdversarialCrossEntropy()
        )
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
        model.fit(images, labels, batch_size=4, verbose=0)

    return {
        "PGD(...)(net, images)": trip(lambda net: attack(net, images, labels)),
        "PGD(...).generate(net, images)": trip(
            lambda net: attack.generate(net, images, labels, verbose=0)
        ),
        "AdversarialTrainingModel(net).fit(images)": trip(fit),
    }


def main() -> None:
    """Prints the table, and with `--stacks` each frame."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stacks", action="store_true", help="name each frame")
    show_stacks = parser.parse_args().stacks
    found = trips()
    print("| " + " | ".join(_HEADER) + " |\n|" + "---|" * len(_HEADER))
    for name, each in found.items():
        print("| " + " | ".join(map(str, (f"`{name}`", *each.row))) + " |")
    for name, each in found.items() if show_stacks else ():
        print(f"\n{name}")
        for file, function in each.stack:
            print(f"  {file}: {function}")


if __name__ == "__main__":
    main()
