import numpy as np
import pytest

from keras_advdef.models import mnist_critic


def test_it_is_the_papers_net():
    assert mnist_critic().count_params() == 1_030_145


def test_scores_of_a_narrow_net_are_not_bounded():
    critic = mnist_critic(2)
    images = np.random.default_rng(0).uniform(size=(3, 28, 28, 1))
    assert critic(images).shape == (3, 1)
    assert np.abs(critic(1e6 * images)).max() > 1.0


def test_bad_width():
    with pytest.raises(ValueError, match="`mnist_critic` expects `width`"):
        mnist_critic(0)
