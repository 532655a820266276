"""The flags of the command `compare`."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from keras_advdef_command._flags import Verbose
from keras_advdef_command.paths import check_output
from keras_advdef_command.refusal import refusal

_REPORT = "report.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompareFlags:
    """The flags of `keras-advdef compare`, as typed.

    The help of each flag says what it means.
    """

    reports: Annotated[
        list[Path],
        typer.Argument(help="Folders of two or more finished reports."),
    ]
    names: Annotated[
        str | None,
        typer.Option(
            help="What to call the reports, such as undefended,hardened. Default: the "
            "names of their folders."
        ),
    ] = None
    output: Annotated[
        Path, typer.Option(help="Folder for comparison.html and comparison.md.")
    ] = Path("advdef-comparison")
    verbose: Verbose = False

    def check(self) -> None:
        """Raises if an argument cannot be used.

        Raises:
            RefusedArgument: If one cannot.
        """
        typed = " ".join(map(str, self.reports))
        if len(self.reports) < 2:
            raise refusal("REPORTS", "two folders or more", typed)
        for folder in self.reports:
            if not (folder / _REPORT).is_file():
                rule = f"folders of reports, with {_REPORT} in each"
                raise refusal("REPORTS", rule, str(folder), advice="Check the path.")
        if len(self.titles()) != len(self.reports):
            rule = f"{len(self.reports)} names, one for each report, between commas"
            raise refusal("--names", rule, self.names or "")
        check_output(self.output)

    def titles(self) -> list[str]:
        """Returns what the reports are called, in their order."""
        if self.names is not None:
            return [name.strip() for name in self.names.split(",")]
        return [folder.absolute().name for folder in self.reports]
