import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import FGSM
from keras_advdef.attacks._goal import check_eager, given, given_or_predicted
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.random_numbers import make_key

_ROWS = np.array([[0.25, 0.75]], "float32")


def test_given_is_rows_only_where_the_loss_takes_them():
    np.testing.assert_array_equal(given(FGSM(0.1), _ROWS), _ROWS)
    assert given(FGSM(0.1, loss="margin"), _ROWS).numpy().tolist() == [1]


def test_given_or_predicted(net, images):
    logits_fn, key = LogitsFunction(net), make_key(0)
    found = given_or_predicted(FGSM(0.1), logits_fn, tf.constant(images), None, key)
    np.testing.assert_array_equal(found, np.argmax(net(images), axis=-1))
    known = given_or_predicted(FGSM(0.1), logits_fn, images[:1], [2], key)
    assert known.numpy().tolist() == [2]


def test_check_eager(images):
    attack = FGSM(0.1)
    check_eager(attack, tf.constant(images), None, None)
    with pytest.raises(ValueError, match=r"`FGSM` expects `images`.*value range"):
        check_eager(attack, tf.constant(255 * images), None, None)
    with pytest.raises(ValueError, match="rows that sum to 1"):
        check_eager(attack, tf.constant(images), np.ones((6, 3)), None)


def test_an_eager_call_tells_of_an_epsilon_of_another_range(net, images):
    attack, pixels = FGSM(8 / 255, value_range=(0, 255)), tf.constant(255 * images)
    labels = [0] * len(images)
    with pytest.warns(UserWarning, match="Did you mean 8, in the units of the pixels"):
        attack(net, pixels, labels)
    with pytest.warns(UserWarning, match="Did you mean 16, in the units"):
        attack(net, pixels, labels, epsilon=16 / 255)
    # Warnings are errors here: what is meant is not told of.
    attack(net, pixels, labels, epsilon=8)
    attack(net, pixels, labels, epsilon=tf.constant(8.0))
