import numpy as np

from keras_advdef.training._parts import alone, parts_of


def test_alone():
    images = np.zeros((2, 2))
    for given in (images, [images], {"image": images}, ({"image": images},)):
        assert alone(given) is images
    pair = [images, images]
    assert alone(pair) is pair
    assert alone(None) is None


def test_parts_of():
    images, labels = np.zeros((2, 2)), np.zeros(2)
    for data in ((images, labels), ([images], {"y": labels})):
        found = parts_of(data)
        assert found[0] is images
        assert found[1] is labels
        assert found[2] is None
