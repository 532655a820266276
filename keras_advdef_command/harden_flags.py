"""The flags of the command `harden`."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from keras_advdef_command._flags import Seed, Verbose
from keras_advdef_command._parse_number import parse_number
from keras_advdef_command._value_range import parse_value_range
from keras_advdef_command.paths import check_data, check_model, check_output
from keras_advdef_command.refusal import refusal

_CHOICES = {
    "recipe": ("fast", "pgd", "trades", "trades_awp", "certified"),
    "norm": ("linf", "l2", "l1"),
    "precision": ("auto", "float32", "bfloat16"),
    "augment": ("auto", "yes", "no"),
}
# Flags that are no arguments of `harden`, or have another form there.
_OTHER = ("model", "data", "augment", "verbose")


@dataclasses.dataclass(frozen=True, kw_only=True)
class HardenFlags:
    """The flags of `keras-advdef harden`, as typed.

    The help of each flag says what it means. Apart from `data` and `verbose`, each is
    an argument of `harden`.
    """

    model: Annotated[
        str,
        typer.Argument(help="A .keras or .h5 file with the classifier to defend."),
    ]
    data: Annotated[
        str,
        typer.Option(
            help="digits, mnist, fashion_mnist or cifar10; a .npz file in the layout "
            "of keras.datasets; or a folder of images with one subfolder per class, or "
            "with train/ and test/ sorted that way. Half of the test images, at most "
            "1000, choose the best epoch; the rest is reported about."
        ),
    ]
    epsilon: Annotated[
        str,
        typer.Option(
            help="Largest perturbation to defend against, in the units of "
            "--value-range. One that leaves the class plain to people: 0.3 for "
            "digits like those of MNIST, 8/255 for small photographs like those of "
            "CIFAR-10, 4/255 for large ones; in l2, 0.5. epsilon.png in --output shows "
            "it on your images."
        ),
    ]
    output: Annotated[
        Path,
        typer.Option(
            help="Folder for the model, the reports and the pictures; a stopped run "
            "resumes from it."
        ),
    ]
    recipe: Annotated[
        str,
        typer.Option(
            help="fast (one step, N-FGSM), pgd (seven steps), trades, trades_awp, or "
            "certified (small images, linf: fewer survive, but that is proved)."
        ),
    ] = "fast"
    minutes: Annotated[
        str | None,
        typer.Option(help="Time for everything, such as 60; epochs are chosen to fit."),
    ] = None
    epochs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Passes over the training images.",
            show_default="30, or what --minutes allow",
        ),
    ] = None
    norm: Annotated[
        str, typer.Option(help="Norm of the perturbation: linf, l2 or l1.")
    ] = "linf"
    value_range: Annotated[
        str,
        typer.Option(help="Pixel range that the model expects, such as 0,255."),
    ] = "0,1"
    augment: Annotated[
        str,
        typer.Option(
            help="Shift and mirror training images: yes, no, or auto for square colour "
            "images of 24 pixels or more."
        ),
    ] = "auto"
    precision: Annotated[
        str,
        typer.Option(
            help="Of the attacks in training: float32, bfloat16, or auto for the "
            "faster one if both are equally strong."
        ),
    ] = "auto"
    batch_size: Annotated[int, typer.Option(min=1, help="Images per batch.")] = 128
    seed: Seed = 0
    verbose: Verbose = False

    def check(self) -> None:
        """Raises if an argument cannot be used, whatever the model and the data are.

        Raises:
            RefusedArgument: If one cannot.
        """
        for name, choices in _CHOICES.items():
            typed = getattr(self, name)
            if typed not in choices:
                rule = f"one of {', '.join(choices)}"
                raise refusal(f"--{name}", rule, typed)
        self.arguments()
        check_model("MODEL", self.model)
        if Path(self.model).is_dir():
            rule = "a .keras or .h5 file"
            advice = "A SavedModel cannot be trained."
            raise refusal("MODEL", rule, self.model, advice=advice)
        check_data(self.data)
        check_output(self.output)

    def arguments(self) -> dict[str, Any]:
        """Returns the arguments of `harden` but for model and data.

        Raises:
            RefusedArgument: If a number cannot be read.
        """
        values = {
            name: value for name, value in vars(self).items() if name not in _OTHER
        }
        low, high = parse_value_range(self.value_range)
        minutes = self.minutes
        return {
            **values,
            "epsilon": self._positive("--epsilon", self.epsilon, "such as 8/255"),
            "minutes": minutes and self._positive("--minutes", minutes, "such as 60"),
            "value_range": (low, high),
            "augment": {"auto": "auto", "yes": True, "no": False}[self.augment],
        }

    @staticmethod
    def _positive(flag: str, text: str, example: str) -> float:
        rule = f"a number above 0, {example}"
        number = parse_number(flag, text, rule=rule)
        if number <= 0.0:
            raise refusal(flag, rule, text)
        return number
