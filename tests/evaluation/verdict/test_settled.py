import pytest

from keras_advdef.evaluation._verdict.settled import is_settled, settled_check


@pytest.mark.parametrize(
    ("gains", "settled"), [([0], True), ([9, 1], True), ([1, 9], False), ([2], False)]
)
def test_last_round_decides(gains, settled):
    assert is_settled(gains, 100) is settled
    assert settled_check(gains, 100).passed is settled


def test_details():
    assert settled_check([], 9).passed is None
    assert settled_check([3], 100).detail == (
        "As checks failed, a round of attacks without gradients followed. They broke 3 "
        "further images of 100, the last round 3. The accuracy is an upper bound that "
        "more attacks would lower."
    )
    assert "2 rounds" in settled_check([3, 0], 100).detail
