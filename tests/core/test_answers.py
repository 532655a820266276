import numpy as np

from keras_advdef.core.answers import NO_ANSWER, predicted_classes


def test_largest_output():
    outputs = np.array([[0.0, 2.0, 1.0], [3.0, -np.inf, np.inf]])
    assert predicted_classes(outputs).tolist() == [1, 2]


def test_nan_is_no_class_wherever_it_stands():
    outputs = np.eye(3)
    outputs[[0, 1, 2], [0, 2, 1]] = np.nan
    assert predicted_classes(outputs).tolist() == [NO_ANSWER] * 3
