import numpy as np
import pytest

from keras_advdef.models import mnist_generator


def test_it_is_the_papers_net():
    assert mnist_generator().count_params() == 1_554_177


@pytest.mark.parametrize(("width", "latents"), [(1, 3), (2, 128)])
def test_images_of_narrow_nets(width, latents):
    generator = mnist_generator(width, latent_dim=latents)
    images = generator(10.0 * np.random.default_rng(0).normal(size=(3, latents)))
    assert images.shape == (3, 28, 28, 1)
    assert 0.0 <= np.min(images) < np.max(images) <= 1.0


@pytest.mark.parametrize("name", ["width", "latent_dim"])
def test_bad_arguments(name):
    with pytest.raises(ValueError, match=f"`mnist_generator` expects `{name}`"):
        mnist_generator(**{name: 0})
