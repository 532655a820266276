import numpy as np
import pytest

from keras_advdef.cli.demo._small_network import small_network


class TestSmallNetwork:
    @pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (32, 48, 3), (1, 1, 1)])
    def test_returns_logits(self, shape):
        logits = small_network(shape, 7)(np.zeros((2, *shape)))
        assert logits.shape == (2, 7)

    def test_large_images_stay_affordable(self):
        assert small_network((224, 224, 3), 10).count_params() < 1_000_000
