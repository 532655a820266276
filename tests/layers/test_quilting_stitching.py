import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.layers._quilting import grid_patches, patch_starts, stitch_patches


def _seam(errors):
    """Returns the first column of the new patch in each row (Efros and Freeman)."""
    costs = [errors[0]]
    for row in errors[1:]:
        wide = np.pad(costs[-1], 1, constant_values=np.inf)
        costs.append(row + np.min([wide[:-2], wide[1:-1], wide[2:]], axis=0))
    seam = [int(np.argmin(costs[-1]))]
    for cost in costs[-2::-1]:
        low = max(0, seam[-1] - 1)
        seam.append(low + int(np.argmin(cost[low : seam[-1] + 2])))
    return seam[::-1]


def _pasted(patches, shape, side, overlap):
    """Stitches one image, patch by patch."""
    image = np.full(shape, np.nan)
    tops, lefts = (patch_starts(size, side, overlap) for size in shape[:2])
    new = iter(patches.reshape(-1, side, side, shape[2]).astype("float64"))
    for row, top in enumerate(tops):
        for column, left in enumerate(lefts):
            patch = next(new)
            window = image[top : top + side, left : left + side]
            errors = ((window - patch) ** 2).sum(axis=2)
            takes = np.ones((side, side), bool)
            if column and (width := lefts[column - 1] + side - left):
                for line, start in enumerate(_seam(errors[:, :width])):
                    takes[line, :start] = False
            if row and (height := tops[row - 1] + side - top):
                for line, start in enumerate(_seam(errors[:height].T)):
                    takes[:start, line] = False
            window[takes] = patch[takes]
    return image


SHAPES = [
    ((5, 5, 1), 5, 2),
    ((8, 11, 3), 5, 2),
    ((12, 10, 3), 5, 2),
    ((33, 17, 1), 5, 2),
    ((13, 12, 2), 5, 4),
    ((14, 9, 1), 4, 3),
    ((11, 13, 1), 6, 3),
    ((10, 9, 2), 3, 0),
    ((4, 5, 1), 1, 0),
]


class TestStitchPatches:
    @pytest.mark.parametrize(("shape", "side", "overlap"), SHAPES)
    def test_equals_pasting_one_after_another(
        self, shape, side, overlap, in_every_mode
    ):
        count = np.prod([len(patch_starts(n, side, overlap)) for n in shape[:2]])
        generator = np.random.default_rng(3)
        size = (3, count, side * side * shape[2])
        patches = generator.uniform(size=size).astype("float32")
        expected = [_pasted(each, shape, side, overlap) for each in patches]
        for found in in_every_mode(
            lambda new: stitch_patches(new, shape, side, overlap), tf.constant(patches)
        ):
            np.testing.assert_array_equal(found, np.float32(expected))

    @pytest.mark.parametrize(("shape", "side", "overlap"), SHAPES)
    def test_own_patches_give_the_image_back(self, shape, side, overlap):
        images = np.random.default_rng(1).uniform(size=(2, *shape)).astype("float32")
        patches = grid_patches(tf.constant(images), side, overlap)
        found = stitch_patches(patches, shape, side, overlap)
        np.testing.assert_array_equal(found, images)

    def test_seam_follows_where_patches_agree(self):
        # The patches agree in one column of the overlap, where the new one begins.
        left, right = np.zeros((3, 3)), np.ones((3, 3))
        right[:, 1] = 0.0
        patches = np.stack([left, right]).reshape(1, 2, 9).astype("float32")
        found = stitch_patches(tf.constant(patches), (3, 4, 1), 3, 2).numpy()
        assert found[0, 0, :, 0].tolist() == [0, 0, 0, 1]
        right[:, 1], right[:, 0] = 1.0, 0.0
        patches = np.stack([left, right]).reshape(1, 2, 9).astype("float32")
        found = stitch_patches(tf.constant(patches), (3, 4, 1), 3, 2).numpy()
        assert found[0, 0, :, 0].tolist() == [0, 0, 1, 1]

    def test_large_images_take_few_steps(self):
        traced = tf.function(lambda new: stitch_patches(new, (224, 224, 3), 5, 2))
        graph = traced.get_concrete_function(tf.TensorSpec([None, 5476, 75])).graph
        loop = next(
            op
            for op in graph.get_operations()
            if op.type in ("While", "StatelessWhile")
        )
        bound = tf.get_static_value(loop.inputs[1])
        assert bound == 74 + 2 * 73
