import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core import image_source
from keras_advdef.core.image_source import load_images

IMAGES = np.arange(20, dtype="float32").reshape(5, 2, 2, 1)
LABELS = np.array([0, 1, 2, 3, 4])


def dataset(*parts, size=2):
    return tf.data.Dataset.from_tensor_slices(parts or (IMAGES, LABELS)).batch(size)


class Batches(keras.utils.PyDataset):
    """The images in batches of two; endless if there is no length."""

    def __init__(self, length=3):
        super().__init__()
        self._length = length
        self.read = 0

    @property
    def num_batches(self):
        return self._length

    def __getitem__(self, index):
        self.read += 1
        rows = slice(2 * index, 2 * index + 2)
        return IMAGES[rows], LABELS[rows]


class TestTaken:
    @pytest.mark.parametrize(
        "make",
        [
            dataset,
            lambda: dataset().filter(lambda x, y: True),
            lambda: dataset(IMAGES, LABELS, np.ones(5)),
            lambda: tf.data.Dataset.from_generator(
                lambda: iter([(IMAGES[:3], LABELS[:3]), (IMAGES[3:], LABELS[3:])]),
                output_signature=(tf.TensorSpec(None), tf.TensorSpec(None)),
            ),
            lambda: dataset({"image": IMAGES}, LABELS),
            Batches,
        ],
        ids=["batched", "unknown size", "weights", "unknown rank", "dict", "PyDataset"],
    )
    def test_all_of_a_data_set(self, make):
        images, labels, is_whole = load_images("PGD", make())
        np.testing.assert_array_equal(images, IMAGES)
        np.testing.assert_array_equal(labels, LABELS)
        assert is_whole

    @pytest.mark.parametrize("most", [1, 2, 3, 5, 9])
    def test_no_more_than_asked_for(self, most):
        for source in (dataset(), Batches()):
            images, labels, is_whole = load_images("PGD", source, most=most)
            np.testing.assert_array_equal(images, IMAGES[:most])
            np.testing.assert_array_equal(labels, LABELS[:most])
            assert is_whole == (most >= 5)

    def test_reads_no_further_than_it_must(self):
        endless = Batches(None)
        assert len(load_images("PGD", endless, most=4).images) == 4
        assert endless.read <= 3
        repeated = dataset().repeat()
        images, labels, is_whole = load_images("PGD", repeated, most=7)
        assert labels.tolist() == [0, 1, 2, 3, 4, 0, 1]
        assert len(images) == 7
        assert not is_whole

    @pytest.mark.parametrize(
        ("make", "advice"),
        [
            (lambda: dataset().repeat(), r"`dataset\.take\(100\)`"),
            (lambda: Batches(None), "a `num_batches`"),
        ],
    )
    def test_no_end_is_refused(self, make, advice):
        with pytest.raises(ValueError, match=f"has an end.* Limit it, .* by {advice}"):
            load_images("PGD", make())

    def test_a_generator_is_refused(self):
        for source in (((IMAGES, LABELS) for _ in range(2)), itertools.count()):
            with pytest.raises(TypeError, match="or make it a `tf"):
                load_images("PGD", source)

    def test_images_alone_and_labels_beside_them(self):
        images, labels, _ = load_images("PGD", dataset(IMAGES))
        assert labels is None
        labels = load_images("PGD", dataset(IMAGES), LABELS).labels
        np.testing.assert_array_equal(labels, LABELS)
        np.testing.assert_array_equal(images, IMAGES)

    def test_labels_twice_are_refused(self):
        with pytest.raises(ValueError, match="omitted if the data set"):
            load_images("PGD", dataset(), LABELS)

    def test_single_images_are_refused(self):
        with pytest.raises(ValueError, match=r"Batch .* with `dataset\.batch\(128\)`"):
            load_images("PGD", dataset().unbatch())

    def test_images_of_two_sizes_are_refused(self):
        sizes = iter([np.zeros((2, 4, 4, 1)), np.zeros((2, 5, 4, 1))])
        source = tf.data.Dataset.from_generator(
            lambda: sizes, output_signature=tf.TensorSpec((2, None, 4, 1))
        )
        with pytest.raises(ValueError, match=r"all of shape \(4, 4, 1\)"):
            load_images("PGD", source)

    def test_nothing_is_refused(self):
        with pytest.raises(ValueError, match="not empty"):
            load_images("PGD", dataset().take(0))

    def test_no_more_than_memory_holds(self, monkeypatch):
        monkeypatch.setattr(image_source, "_MOST_BYTES", 40)
        with pytest.raises(ValueError, match="Limit the data set"):
            load_images("PGD", dataset())

    @pytest.mark.parametrize("kind", [np.asarray, tf.constant, list])
    def test_arrays_come_back_as_they_are(self, kind):
        images = kind(IMAGES)
        found = load_images("PGD", images, LABELS, most=2)
        assert found.images is images
        assert found.labels is LABELS
        assert found.is_whole


class TestStructures:
    @pytest.mark.parametrize(
        "images", [{"image": IMAGES}, [IMAGES], (IMAGES,), [tf.constant(IMAGES)]]
    )
    def test_one_array(self, images):
        np.testing.assert_array_equal(load_images("PGD", images).images, IMAGES)

    def test_a_list_of_one_image_is_a_batch(self):
        assert np.shape(load_images("PGD", [IMAGES[0]]).images) == (1, 2, 2, 1)

    def test_several_are_refused_by_name(self):
        rule = r"`x` to be one array.* Received: x=\['a', 'b'\]"
        with pytest.raises(ValueError, match=rule):
            load_images("PGD", {"a": IMAGES, "b": IMAGES}, argument="x")
