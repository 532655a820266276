"""The flags of the command `demo`."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from keras_advdef_command._flags import Seed, Verbose
from keras_advdef_command._parse_number import parse_number
from keras_advdef_command.paths import check_data, check_output
from keras_advdef_command.refusal import refusal

# The classifier that is hardened, beside what `harden` writes.
UNDEFENDED = "undefended.keras"
# At more, an attacker can make every image plain grey.
_LARGEST = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class DemoFlags:
    """The flags of `keras-advdef demo`, as typed.

    The help of each flag says what it means.
    """

    data: Annotated[
        str,
        typer.Option(
            help="digits, mnist, fashion_mnist or cifar10; a .npz file in the layout "
            "of keras.datasets; or a folder of images with one subfolder per class, or "
            "with train/ and test/ sorted that way.",
        ),
    ] = "digits"
    output: Annotated[
        Path,
        typer.Option(
            help="Folder for the models and the reports; a stopped run resumes from it."
        ),
    ] = Path("advdef-demo")
    epsilon: Annotated[
        str | None,
        typer.Option(
            help="Largest change of a pixel to defend against, for pixels in [0, 1], "
            "such as 0.1 or 8/255.",
            show_default="depends on the data set",
        ),
    ] = None
    epochs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Passes over the training images.",
            show_default="depends on the data set",
        ),
    ] = None
    seed: Seed = 0
    verbose: Verbose = False

    def check(self) -> None:
        """Raises if an argument cannot be used, whatever the data are.

        Raises:
            RefusedArgument: If one cannot.
        """
        self.epsilon_number()
        check_data(self.data)
        check_output(self.output)

    def epsilon_number(self) -> float | None:
        """Returns epsilon as a number, or `None` for the data set's.

        Raises:
            RefusedArgument: If it is not a number in (0, 0.5].
        """
        if self.epsilon is None:
            return None
        rule = "a number above 0 and at most 0.5, such as 0.1 or 8/255"
        number = parse_number("--epsilon", self.epsilon, rule=rule)
        if not 0.0 < number <= _LARGEST:
            raise refusal("--epsilon", rule, self.epsilon)
        return number
