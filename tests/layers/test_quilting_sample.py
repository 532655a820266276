import tracemalloc

import numpy as np
from scipy import stats

from keras_advdef.layers._quilting import sample_patches


def _images(*shape):
    return np.random.default_rng(0).uniform(size=shape).astype("float32")


def _all(images, side):
    return np.stack(
        [
            image[top : top + side, left : left + side].ravel()
            for image in images
            for top in range(images.shape[1] - side + 1)
            for left in range(images.shape[2] - side + 1)
        ]
    )


class TestSamplePatches:
    def test_takes_all_in_order_while_they_fit(self):
        images = _images(3, 6, 7, 2)
        for most in (60, 61, 1000):
            found = sample_patches([images], 3, most, seed=0)
            np.testing.assert_array_equal(found, _all(images, 3))

    def test_batching_makes_no_difference(self):
        images = _images(20, 6, 7, 1)
        for most in (7, 50, 399):
            whole = sample_patches([images], 3, most, seed=4)
            parts = sample_patches(np.split(images, [1, 6, 13]), 3, most, seed=4)
            assert len(whole) == most
            np.testing.assert_array_equal(whole, parts)

    def test_images_may_differ_in_size(self):
        batches = [_images(2, 6, 7, 1), _images(1, 3, 3, 1)]
        assert len(sample_patches(batches, 3, 100, seed=0)) == 2 * 20 + 1

    def test_every_place_is_equally_likely(self):
        # 12 places of 3 images in unequal batches; 5 of each sample of 12 * 3.
        places = np.arange(3 * 4 * 5, dtype="float32").reshape(3, 4, 5, 1)
        hits = np.zeros(60)
        for seed in range(3000):
            found = sample_patches([places[:1], places[1:]], 2, 5, seed)
            assert len(np.unique(found[:, 0])) == 5
            hits[found[:, 0].astype(int)] += 1
        inside = hits.reshape(3, 4, 5)[:, :3, :4].ravel()
        assert inside.sum() == 3000 * 5
        assert stats.chisquare(inside).pvalue > 1e-3

    def test_seed_fixes_the_sample(self):
        images = _images(5, 9, 9, 1)
        one, again, other = (sample_patches([images], 3, 9, s) for s in (1, 1, 2))
        np.testing.assert_array_equal(one, again)
        assert not np.array_equal(one, other)

    def test_memory_does_not_grow_with_the_stream(self):
        images = _images(50, 20, 20, 3)

        def peak(batches):
            tracemalloc.start()
            sample_patches((images for _ in range(batches)), 5, 1000, seed=0)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            return peak

        peak(1)
        assert peak(40) < 1.5 * peak(4)
