import numpy as np

from keras_advdef.evaluation import IntervalCertificates


def test_is_a_pair():
    certified, margins = IntervalCertificates(np.array([True]), np.array([0.1]))
    assert certified.all()
    assert margins[0] == 0.1
