import io

from rich.console import Console

from keras_advdef.cli._rich_progress import RichProgress


def show(*, terminal):
    stream = io.StringIO()
    console = Console(file=stream, width=100, force_terminal=terminal)
    with RichProgress(console) as progress:
        progress.line("Planned: [PGD]")
        progress.update("PGD-20", left=10, seconds=None)
        progress.update("PGD-20", left=4, seconds=61.0)
        progress.update("Square-200", left=3, seconds=5.0)
    return stream.getvalue()


def test_lines_where_there_is_no_terminal():
    assert show(terminal=False).splitlines()[:3] == [
        "Planned: [PGD]",
        "PGD-20: 10 images left",
        "Square-200: 3 images left, about 5 s to go",
    ]


def test_bar_on_a_terminal():
    text = show(terminal=True)
    assert "Planned: [PGD]" in text
    assert "Square-200" in text
    assert "3 images left, about 5 s to go" in text
