"""What holds for the process of the command, tested with stand-ins."""

import signal

import pytest


@pytest.mark.parametrize(
    ("number", "code", "line"),
    [(signal.SIGINT, 130, "Interrupted.\n"), (signal.SIGTERM, 143, "Terminated.\n")],
)
@pytest.mark.parametrize("phase", ["loading", "running"])
def test_a_signal_ends_it_with_one_line(run, number, code, line, phase):
    done = run(**{phase: f"os.kill(os.getpid(), {int(number)}); raise SystemExit(3)"})
    assert (done.returncode, done.stdout, done.stderr) == (code, "", line)


def test_signals_that_are_ignored_stay_so(run):
    before = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
    done = run(running="os.kill(os.getpid(), signal.SIGINT)", before=before)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_no_file_takes_the_number_of_a_closed_stream(run, tmp_path, closed):
    running = (
        "file = open('number', 'w'); file.write(str(file.fileno())); "
        "print('a', flush=True); print('b', file=sys.stderr, flush=True)"
    )
    loading = "os.write(2, b'noise')"
    assert run(loading, running, shell=closed).returncode == 0
    assert int((tmp_path / "number").read_text()) > 2


def test_letters_that_the_terminal_does_not_know(run):
    running = "print('z\\u00e4\\udcff')"
    done = run(running=running, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout) == (0, "z\\xe4\\udcff\n")


def test_defects_have_a_code_of_their_own(run):
    done = run(running="1 / 0")
    assert done.returncode == 70
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")
