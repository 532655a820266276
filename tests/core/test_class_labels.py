import numpy as np
import pytest

from keras_advdef.core.value_range import class_labels


@pytest.mark.parametrize("classes", [3, None])
@pytest.mark.parametrize(
    "labels",
    [
        [2, 0],
        [[2], [0]],
        [2.0, 0.0],
        [[0, 0, 1], [1, 0, 0]],
        np.array([[0, 0, 1], [1, 0, 0]], "float16"),
        np.array([[False, False, True], [True, False, False]]),
    ],
)
def test_one_class_each(labels, classes):
    found = class_labels("certify", labels, count=2, classes=classes)
    assert found.tolist() == [2, 0]
    assert found.dtype == "int64"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            [[0.9, 0.1, 0.0], [1, 0, 0]],
            r"labels=\[0.9, 0.1, 0.0\]. Pass `labels",
        ),
        ([[0.0, 1.0, 1.0], [1, 0, 0]], "`certify` expects `labels`"),
        ([[0.0, 0.0, 0.0], [1, 0, 0]], "`certify` expects `labels`"),
        ([3, 0], r"in \[0, 3\)"),
        ([0], r"of shape \(2,\)"),
    ],
)
def test_no_class_is_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        class_labels("certify", labels, count=2, classes=3)
