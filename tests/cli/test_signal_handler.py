import concurrent.futures
import contextlib
import signal
import time

import pytest

from keras_advdef.cli import _signal_handler as signal_handler
from keras_advdef.cli._signal_handler import SignalHandler, Terminated

KINDS = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}


@pytest.mark.parametrize("number", KINDS)
def test_raises_and_remembers(number):
    before = {each: signal.getsignal(each) for each in KINDS}
    signals = SignalHandler()
    assert signals.received is None
    with pytest.raises(KINDS[number]), signals:
        signal.raise_signal(number)
    assert signals.received == number
    assert {each: signal.getsignal(each) for each in KINDS} == before


@pytest.mark.parametrize("number", KINDS)
def test_what_a_library_drops_is_raised_again(number, monkeypatch):
    monkeypatch.setattr(signal_handler, "_RETRY_SECONDS", 0.01)
    drops = []

    def work():
        while len(drops) < 3:
            try:
                signal.raise_signal(number)
            except BaseException as error:
                drops.append(error)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            pass

    def run():
        with SignalHandler():
            work()

    with pytest.raises(KINDS[number]) as caught:
        run()
    assert caught.value not in drops


def test_further_signals_do_not_disturb_the_cleaning():
    done = []

    @contextlib.contextmanager
    def cleaning():
        try:
            yield
        finally:
            signal.raise_signal(signal.SIGTERM)
            with contextlib.suppress(KeyError):
                raise KeyError  # while another error is handled, too
            try:
                raise OSError
            except OSError:
                signal.raise_signal(signal.SIGINT)
            done.append(1)

    def work():
        with SignalHandler(), cleaning():
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == [1]


def test_signals_that_are_ignored_stay_so():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with SignalHandler() as signals:
            signal.raise_signal(signal.SIGINT)
        assert signals.received is None
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_leave_them_alone():
    before = {each: signal.getsignal(each) for each in KINDS}

    def work():
        with SignalHandler():
            return {each: signal.getsignal(each) for each in KINDS}

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        assert pool.submit(work).result() == before
