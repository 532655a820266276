"""The command `compare`: puts finished reports side by side."""

from rich import box
from rich.console import Console
from rich.table import Table

from keras_advdef.cli._print_line import print_line
from keras_advdef.core.files import atomic_write_text
from keras_advdef.core.text import printable
from keras_advdef.evaluation.accuracy_estimate import percent
from keras_advdef.evaluation.compare_reports import compare_reports
from keras_advdef.evaluation.robustness_report import RobustnessReport
from keras_advdef_command.compare_flags import CompareFlags

_PAGE, _TABLE = "comparison.html", "comparison.md"


def run_compare(flags: CompareFlags, console: Console) -> None:
    """Writes the page and the table, and prints the accuracies.

    Args:
        flags: What the user asked for.
        console: Where the result goes.

    Raises:
        ValueError: If the reports cannot be compared, or one is damaged.
        OSError: If a file cannot be read or written.
    """
    reports = [RobustnessReport.load(folder) for folder in flags.reports]
    names = flags.titles()
    texts = {
        _PAGE: compare_reports(reports, names, html=True),
        _TABLE: compare_reports(reports, names) + "\n",
    }
    flags.output.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        atomic_write_text(flags.output / name, text)
    table = Table(box=box.SIMPLE_HEAD, title="Accuracy, 95 % Clopper-Pearson intervals")
    for column in ("report", "clean", "under all attacks", "failed checks"):
        table.add_column(column)
    for name, report in zip(names, reports, strict=True):
        failed = sum(check["passed"] is False for check in report.checks)
        table.add_row(
            printable(name),
            percent(report.clean),
            percent(report.adaptive),
            str(failed),
        )
    console.print(table, markup=False, emoji=False)
    print_line(console, f"Written to {flags.output}: {_PAGE}, {_TABLE}")
