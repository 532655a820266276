import concurrent.futures
import signal

import pytest

from keras_advdef.core.files import uninterrupted


class Stopped(BaseException):
    pass


@pytest.fixture
def handlers():
    """Handlers that raise, as a program has them; the old ones return afterwards."""

    def stop(number, frame):
        raise Stopped(number)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, stop) for number in numbers}
    yield dict.fromkeys(numbers, stop)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_body_ends_first(handlers, number):
    done = []

    def work():
        with uninterrupted():
            signal.raise_signal(number)
            signal.raise_signal(signal.SIGINT)
            done.append(1)

    with pytest.raises(Stopped, match=str(int(number))):
        work()
    assert done == [1]
    assert {each: signal.getsignal(each) for each in handlers} == handlers


def test_errors_of_the_body_pass(handlers):
    with pytest.raises(ZeroDivisionError), uninterrupted():
        raise ZeroDivisionError
    assert {each: signal.getsignal(each) for each in handlers} == handlers


def test_signals_nobody_asked_for_are_left_alone(handlers):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with uninterrupted():
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_other_threads(handlers):
    def work():
        with uninterrupted():
            return {each: signal.getsignal(each) for each in handlers}

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        assert pool.submit(work).result() == handlers
