"""The flags of the command `evaluate`."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from keras_advdef_command._flags import Seed, Verbose
from keras_advdef_command._parse_number import parse_number
from keras_advdef_command._value_range import parse_value_range
from keras_advdef_command.paths import check_data, check_model, check_output
from keras_advdef_command.refusal import RefusedArgument, refusal

_NORMS = ("linf", "l2", "l1")
_BUDGETS = ("quick", "standard", "full")
_PRECISIONS = ("float32", "bfloat16")
# A smaller epsilon, as a share of the range, is probably in the wrong units.
_SMALLEST_SHARE = 0.001
# Flags that `evaluate_robustness` does not have.
_OWN = ("data", "minimum_robust_accuracy", "model_card", "verbose")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateFlags:
    """The flags of `keras-advdef evaluate`, as typed.

    The help of each flag says what it means. Apart from `data`,
    `minimum_robust_accuracy`, `model_card` and `verbose`, each is an argument of
    `evaluate_robustness`.
    """

    model: Annotated[
        str,
        typer.Argument(
            help="A .keras or .h5 file, or the folder of a SavedModel. A SavedModel "
            "can run any code with your rights: load only what you trust. The same "
            "holds for --reference and --surrogate.",
        ),
    ]
    data: Annotated[
        str,
        typer.Option(
            help="Images to attack: the test images of digits, mnist, fashion_mnist or "
            "cifar10; x_test of a .npz file; or a folder of images with one subfolder "
            "per class, of which only test/ is used if it has one.",
        ),
    ]
    epsilon: Annotated[
        str,
        typer.Option(
            help="Largest perturbation allowed, in the units of --value-range, such as "
            "8/255; with --norms, one for each, such as 8/255,0.5."
        ),
    ]
    norm: Annotated[
        str, typer.Option(help="Norm of the perturbation: linf, l2 or l1.")
    ] = "linf"
    norms: Annotated[
        str | None,
        typer.Option(
            help="Several norms instead of --norm, such as linf,l2; the report is "
            "about the first, and adds the accuracy under each and under any of them."
        ),
    ] = None
    value_range: Annotated[
        str,
        typer.Option(help="Pixel range that the model expects, such as 0,255."),
    ] = "0,1"
    budget: Annotated[
        str, typer.Option(help="How thoroughly to attack: quick, standard or full.")
    ] = "standard"
    output: Annotated[
        Path,
        typer.Option(help="Folder for the report; a stopped run resumes from it."),
    ] = Path("advdef-evaluation")
    minimum_robust_accuracy: Annotated[
        str | None,
        typer.Option(
            help="Exit with code 1 if the accuracy under all attacks, of all norms, "
            "is below this, such as 0.4."
        ),
    ] = None
    reference: Annotated[
        str | None,
        typer.Option(help="The undefended model to compare with, in the same formats."),
    ] = None
    surrogate: Annotated[
        str | None,
        typer.Option(
            help="A model to transfer adversarial images from, in the same formats."
        ),
    ] = None
    corruptions: Annotated[
        bool,
        typer.Option(
            "--corruptions",
            help="Measure the accuracy with noise, blur, weather and compression, too.",
        ),
    ] = False
    model_card: Annotated[
        bool,
        typer.Option(
            "--model-card",
            help="Write model_card.md, too, with the metadata block of Hugging Face.",
        ),
    ] = False
    batch_size: Annotated[int, typer.Option(min=1, help="Images per batch.")] = 128
    precision: Annotated[
        str, typer.Option(help="float32, or bfloat16 for faster attacks.")
    ] = "float32"
    seed: Seed = 0
    judgements: Annotated[
        int,
        typer.Option(min=2, help="Fresh draws per image, if the model is random."),
    ] = 10
    allow_small_epsilon: Annotated[
        bool,
        typer.Option(
            "--allow-small-epsilon", help="Accept an epsilon below 0.1 % of the range."
        ),
    ] = False
    verbose: Verbose = False

    def check(self) -> None:
        """Raises if an argument cannot be used, whatever the model and the data are.

        Raises:
            RefusedArgument: If one cannot.
        """
        for flag, typed, choices in (
            ("--norm", self.norm, _NORMS),
            *(("--norms", each, _NORMS) for each in self._names() or ()),
            ("--budget", self.budget, _BUDGETS),
            ("--precision", self.precision, _PRECISIONS),
        ):
            if typed not in choices:
                rule = f"one of {', '.join(choices)}"
                raise refusal(flag, rule, typed)
        for norm, epsilon in self._epsilons().items():
            self._check_epsilon(norm, epsilon)
        self.minimum()
        check_model("MODEL", self.model)
        for flag, spec in (
            ("--reference", self.reference),
            ("--surrogate", self.surrogate),
        ):
            if spec is not None:
                check_model(flag, spec)
        check_data(self.data)
        check_output(self.output)

    def arguments(self) -> dict[str, Any]:
        """Returns the arguments of `evaluate_robustness` that the flags hold.

        Raises:
            RefusedArgument: If a number cannot be read.
        """
        names, numbers = self._names(), self._epsilons()
        return {
            **{name: each for name, each in vars(self).items() if name not in _OWN},
            "epsilon": numbers if names else numbers[self.norm],
            "norms": names,
            "value_range": parse_value_range(self.value_range),
        }

    def minimum(self) -> float | None:
        """Returns the smallest accuracy that counts as success, or `None`.

        Raises:
            RefusedArgument: If it is not a number in `[0, 1]`.
        """
        if self.minimum_robust_accuracy is None:
            return None
        flag, rule = "--minimum-robust-accuracy", "a share in [0, 1], such as 0.4"
        number = parse_number(flag, self.minimum_robust_accuracy, rule=rule)
        if not 0.0 <= number <= 1.0:
            raise refusal(flag, rule, self.minimum_robust_accuracy)
        return number

    def _names(self) -> list[str] | None:
        """Returns the norms of --norms."""
        if self.norms is None:
            return None
        names = [each.strip() for each in self.norms.split(",")]
        if len({*names}) < len(names):
            raise refusal("--norms", "norms that differ", self.norms)
        if self.norm not in (_NORMS[0], names[0]):
            rule = "left out beside --norms"
            raise refusal("--norm", rule, self.norm)
        return names

    def _epsilons(self) -> dict[str, float]:
        """Returns each norm's epsilon."""
        rule = "a number above 0, such as 8/255"
        names, texts = self._names() or [self.norm], self.epsilon.split(",")
        if len(texts) != len(names):
            many = f"one number for each of the norms {', '.join(names)}"
            advice = "Separate them by commas, and name the norms with --norms."
            raise self._refused_epsilon(many, advice)
        numbers = [parse_number("--epsilon", each, rule=rule) for each in texts]
        if min(numbers) <= 0.0:
            raise self._refused_epsilon(rule)
        return dict(zip(names, numbers, strict=True))

    def _check_epsilon(self, norm: str, number: float) -> None:
        """Raises if an epsilon is probably in other units than the pixels."""
        low, high = parse_value_range(self.value_range)
        span = high - low
        if norm == "linf" and number > span:
            raise self._refused_epsilon(
                f"at most {span:g}, the width of --value-range",
                f"Did you mean {number:g}/255 = {number / 255:.4f}?",
            )
        if number < _SMALLEST_SHARE * span and not self.allow_small_epsilon:
            meant = f"Did you mean {number * span:g}, in the units of the pixels? "
            raise self._refused_epsilon(
                f"at least 0.1 % of --value-range, {_SMALLEST_SHARE * span:g}",
                # In a range of width 1 the advice would repeat the number.
                f"{meant if span > 1.0 else ''}To keep it, add --allow-small-epsilon.",
            )

    def _refused_epsilon(self, rule: str, advice: str = "") -> RefusedArgument:
        return refusal("--epsilon", rule, self.epsilon, advice=advice)
