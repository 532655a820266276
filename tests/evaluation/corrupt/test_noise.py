import numpy as np
import pytest

from keras_advdef.evaluation._corrupt.noise import (
    gaussian_noise,
    impulse_noise,
    shot_noise,
)

GREY = np.full((200, 200, 3), 0.4, "float32")


def drawn():
    return np.random.default_rng(1)


def test_gaussian_noise_has_its_standard_deviation():
    noise = gaussian_noise(GREY, drawn(), stddev=0.08) - GREY
    assert noise.mean() == pytest.approx(0.0, abs=1e-3)
    assert noise.std() == pytest.approx(0.08, rel=0.01)


def test_shot_noise_has_the_variance_of_counts():
    noisy = shot_noise(GREY, drawn(), photons=25)
    counts = noisy * 25
    np.testing.assert_allclose(counts, np.rint(counts), atol=1e-9)
    assert noisy.mean() == pytest.approx(0.4, rel=0.01)
    assert noisy.var() == pytest.approx(0.4 / 25, rel=0.02)


def test_impulse_noise_makes_half_of_its_share_black():
    noisy = impulse_noise(GREY, drawn(), share=0.2)
    values, counts = np.unique(noisy.astype("float32"), return_counts=True)
    np.testing.assert_allclose(values, [0.0, 0.4, 1.0])
    np.testing.assert_allclose(counts / noisy.size, [0.1, 0.8, 0.1], atol=0.005)
