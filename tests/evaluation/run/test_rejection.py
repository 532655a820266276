import numpy as np
import pytest

from keras_advdef.evaluation._run.rejection import Rejection, find_rejection

LABELS = np.arange(30) % 3
# Class 3 of 4 is nobody's.
LOGITS = np.eye(4)[LABELS]


def found(predicted, *, labels=LABELS, logits=LOGITS, is_declared=False):
    return find_rejection(
        np.asarray(predicted),
        labels[: len(predicted)],
        clean_logits=logits,
        all_labels=labels,
        is_declared=is_declared,
    )


def test_class_that_takes_most_moved_images():
    # Of twelve images two stay, six go to class 3 and four elsewhere.
    predicted = [0, 1, *[3] * 6, *(LABELS[8:12] + 1) % 3]
    assert found(predicted) == Rejection(3, 0.6)


@pytest.mark.parametrize("share", [0, 5])
def test_half_of_them_are_too_few(share):
    predicted = [3] * share + [*(LABELS[share:10] + 1) % 3]
    assert found(predicted) == Rejection(None, share / 10)


def test_class_of_an_image_is_no_detector():
    predicted = [3] * 30
    labels = np.where(np.arange(30) == 29, 3, LABELS)
    assert found(predicted, labels=labels).label is None
    logits = np.eye(4)[labels]
    assert found(predicted, logits=logits).label is None


def test_few_images_may_miss_a_class():
    labels = np.arange(27) % 3
    assert found([3] * 27, labels=labels, logits=np.eye(4)[labels]).label is None
    labels = np.arange(28) % 3
    assert found([3] * 28, labels=labels, logits=np.eye(4)[labels]).label == 3


def test_two_classes_have_none():
    labels = np.zeros(30, int)
    found_one = found([1] * 30, labels=labels, logits=np.eye(2)[labels])
    assert found_one == Rejection(None, 1.0)


def test_a_detector_says_so_itself():
    assert found(LABELS[:5], is_declared=True) == Rejection(3, 0.0)
