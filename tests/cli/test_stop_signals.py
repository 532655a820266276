import concurrent.futures
import signal

import pytest

from keras_advdef.cli.stop_signals import StopSignals, Terminated

KINDS = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}


@pytest.mark.parametrize("number", KINDS)
def test_raises_and_remembers(number):
    before = {each: signal.getsignal(each) for each in KINDS}
    signals = StopSignals()
    assert signals.came is None
    with pytest.raises(KINDS[number]), signals:
        signal.raise_signal(number)
    assert signals.came == number
    assert {each: signal.getsignal(each) for each in KINDS} == before


def test_signals_that_are_ignored_stay_so():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopSignals() as signals:
            signal.raise_signal(signal.SIGINT)
        assert signals.came is None
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_leave_them_alone():
    before = {each: signal.getsignal(each) for each in KINDS}

    def work():
        with StopSignals():
            return {each: signal.getsignal(each) for each in KINDS}

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        assert pool.submit(work).result() == before
