"""What the user asked of the demo."""

import dataclasses
import shlex
from pathlib import Path

from keras_advdef.cli._parse_number import parse_number
from keras_advdef.core.errors import invalid


def _parse_epsilon(text: str) -> float:
    rule = "a number above 0 and at most 1, such as 0.1 or 8/255"
    number = parse_number("--epsilon", text, rule=rule)
    if not 0.0 < number <= 1.0:
        raise invalid("keras-advdef", "--epsilon", rule, text)
    return number


@dataclasses.dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """The flags of `keras-advdef demo`, read and checked.

    Attributes:
        data: Name of a data set, or path of a `.npz` file or a folder.
        output: Folder to write to.
        epsilon: Largest change of a pixel in `[0, 1]`; `None` for the data set's.
        epochs: Passes over the training images; `None` for the data set's.
        seed: Seed of every random draw.
    """

    data: str
    output: Path
    epsilon: float | None
    epochs: int | None
    seed: int

    @classmethod
    def parse(
        cls,
        *,
        data: str,
        output: Path,
        epsilon: str | None,
        epochs: int | None,
        seed: int,
    ) -> "DemoSettings":
        """Returns the settings for flags as typed.

        Args:
            data: As typed.
            output: As typed.
            epsilon: As typed: a number or a fraction, such as "8/255".
            epochs: As typed, at least 1.
            seed: As typed, at least 0.

        Returns:
            The settings.

        Raises:
            ValueError: If epsilon is no number in (0, 1].
        """
        number = None if epsilon is None else _parse_epsilon(epsilon)
        return cls(data=data, output=output, epsilon=number, epochs=epochs, seed=seed)

    def command(self, *, epsilon: float, epochs: int) -> str:
        """Returns the command that repeats the run, with every default spelled out.

        Args:
            epsilon: The epsilon that was used.
            epochs: The epochs that were used.

        Returns:
            A line for a shell.
        """
        flags = {
            "--data": self.data,
            "--epsilon": repr(epsilon),
            "--epochs": str(epochs),
            "--seed": str(self.seed),
            "--output": str(self.output),
        }
        words = [word for flag in flags.items() for word in flag]
        return shlex.join(["keras-advdef", "demo", *words])
