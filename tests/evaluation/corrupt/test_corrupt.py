import numpy as np
import pytest
from scipy import ndimage

from keras_advdef.evaluation._corrupt.corrupt import corrupt
from keras_advdef.evaluation._corrupt.strength import CORRUPTIONS

# With these, more severity does not always move the pixels further: published strengths
# of glass repeat, those of elastic trade one kind of distortion for another, and frost
# and snow replace what they cover.
_NOT_BY_DISTANCE = ("glass_blur", "elastic_transform", "frost", "snow")


def smooth_images(count, side):
    """Images with large and small structures, like photographs."""
    drawn = np.random.default_rng(0).standard_normal((count, side, side, 3))
    images = sum(
        weight * ndimage.gaussian_filter(drawn, (0, side / part, side / part, 0))
        for part, weight in ((16, 1.0), (48, 0.3))
    )
    low, high = (f(images, axis=(1, 2, 3), keepdims=True) for f in (np.min, np.max))
    return (0.05 + 0.9 * (images - low) / (high - low)).astype("float32")


@pytest.fixture(scope="module")
def small():
    return smooth_images(4, 32)


@pytest.fixture(scope="module")
def large():
    return smooth_images(2, 80)


@pytest.mark.parametrize("kind", CORRUPTIONS)
@pytest.mark.parametrize("shape", [(33, 17, 3), (8, 8, 1), (1, 1, 1), (70, 66, 2)])
def test_any_size(kind, shape):
    images = np.random.default_rng(0).random((2, *shape)).astype("float32")
    for severity in (1, 5):
        found = corrupt(images, kind, severity, seed=0)
        assert found.shape == images.shape
        assert found.dtype == np.float32
        assert np.isfinite(found).all()
        assert found.min() >= 0.0
        assert found.max() <= 1.0


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_ends_of_the_range(kind):
    ends = np.stack([np.zeros((8, 8, 3)), np.ones((8, 8, 3))]).astype("float32")
    found = corrupt(ends, kind, 5, seed=0)
    assert np.isfinite(found).all()
    assert found.min() >= 0.0
    assert found.max() <= 1.0


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_an_image_is_corrupted_alike_in_any_batch(kind, small):
    whole = corrupt(small, kind, 3, seed=5)
    alone = [corrupt(small[i : i + 1], kind, 3, seed=5, first=i) for i in range(4)]
    np.testing.assert_array_equal(whole, np.concatenate(alone))


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_only_what_is_drawn_depends_on_seed_and_place(kind, small):
    twice = np.stack([small[0], small[0]])
    first, second = corrupt(twice, kind, 3, seed=5)
    other = corrupt(twice[:1], kind, 3, seed=6)[0]
    is_drawn = kind not in (
        "defocus_blur",
        "zoom_blur",
        "brightness",
        "contrast",
        "pixelate",
        "jpeg_compression",
    )
    assert np.array_equal(first, second) != is_drawn
    assert np.array_equal(first, other) != is_drawn


def distances(images, kind):
    return [
        np.abs(corrupt(images, kind, severity, seed=0) - images).mean()
        for severity in range(1, 6)
    ]


@pytest.mark.parametrize("kind", [k for k in CORRUPTIONS if k not in _NOT_BY_DISTANCE])
def test_more_severity_moves_pixels_further(kind, small, large):
    assert (np.diff(distances(large, kind)) > 0).all()
    further = np.diff(distances(small, kind))
    # The trace of severity 4 is longer, but its weights are those of severity 3.
    same = [2] if kind == "motion_blur" else []
    assert (np.delete(further, same) > 0).all()
    assert (further > -1e-3).all()


@pytest.mark.parametrize("kind", _NOT_BY_DISTANCE)
def test_every_severity_changes_the_image(kind, small, large):
    assert min(distances(small, kind)) > 0.02
    assert min(distances(large, kind)) > 0.002


@pytest.mark.parametrize("kind", ["glass_blur", "snow"])
def test_most_severity_does_more_than_least(kind, small, large):
    for images in (small, large):
        found = distances(images, kind)
        assert found[4] > 1.2 * found[0]


def test_more_frost_hides_more(small, large):
    for images in (small, large):
        likeness = [
            np.mean([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairs])
            for pairs in (
                [*zip(images, corrupt(images, "frost", each, seed=0), strict=True)]
                for each in range(1, 6)
            )
        ]
        assert (np.diff(likeness) < 0).all()
