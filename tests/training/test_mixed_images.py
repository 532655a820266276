import keras
import numpy as np
import pytest

from keras_advdef.training import MixedImages

REAL, EXTRA = 20, 33


def numbered(count, first, labels=None):
    """Images that hold their own numbers, which are their labels, too."""
    numbers = np.arange(first, first + count, dtype=np.uint8)
    images = np.broadcast_to(numbers[:, None, None, None], (count, 2, 2, 1)).copy()
    return images, numbers.astype(int) if labels is None else labels


def mixed_images(**options):
    options = {"extra_share": 0.7, "batch_size": 10, "seed": 3, **options}
    return MixedImages(*numbered(REAL, 0), numbered(EXTRA, 100), **options)


def epoch_of(mixed):
    """Returns the numbers of the images of an epoch, batch by batch."""
    batches = []
    for index in range(len(mixed)):
        images, labels = mixed[index]
        assert images.dtype == np.uint8
        np.testing.assert_array_equal(images[:, 0, 0, 0], labels)
        batches.append(labels)
    return batches


class TestMixedImages:
    def test_each_batch_holds_the_share(self):
        batches = epoch_of(mixed_images())
        assert [(len(each), int((each >= 100).sum())) for each in batches] == [
            *[(10, 7)] * 6,
            (7, 5),  # two real ones are left
        ]

    def test_an_epoch_is_one_pass_over_the_real_images(self):
        mixed = mixed_images()
        orders = []
        for _ in range(3):
            numbers = np.concatenate(epoch_of(mixed))
            real = numbers[numbers < 100]
            assert sorted(real) == list(range(REAL))
            orders.append(tuple(real))
            mixed.on_epoch_end()
        assert len(set(orders)) == 3

    def test_extra_images_go_on_where_they_stopped(self):
        mixed = mixed_images()
        seen = []
        for _ in range(5):
            numbers = np.concatenate([np.sort(each) for each in epoch_of(mixed)])
            seen += list(numbers[numbers >= 100])
            mixed.on_epoch_end()
        assert len(seen) == 5 * 47
        counts = np.bincount(np.array(seen) - 100, minlength=EXTRA)
        assert set(counts) == {5 * 47 // EXTRA, 5 * 47 // EXTRA + 1}

    def test_order_depends_on_seed_and_epoch_alone(self):
        mixed = mixed_images()
        mixed.on_epoch_end()
        mixed.on_epoch_end()
        later = mixed_images()
        later.set_epoch(2)
        backwards = [later[index][1] for index in reversed(range(len(later)))][::-1]
        other = mixed_images(seed=4)
        other.set_epoch(2)
        expected = np.concatenate(epoch_of(mixed))
        np.testing.assert_array_equal(np.concatenate(backwards), expected)
        assert (np.concatenate(epoch_of(other)) != expected).any()

    def test_kinds_are_mixed_within_a_batch(self):
        is_extra = np.array([each >= 100 for each in epoch_of(mixed_images())[:6]])
        assert is_extra.any(axis=0).all()
        assert not is_extra.all(axis=0).all()

    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    def test_reads_a_file(self, save, tmp_path):
        images, labels = numbered(EXTRA, 100)
        save(tmp_path / "extra.npz", labels=labels, images=images)
        mixed = MixedImages(
            *numbered(REAL, 0),
            tmp_path / "extra.npz",
            extra_share=0.7,
            batch_size=10,
            seed=3,
        )
        assert isinstance(mixed.extra_images, np.memmap) == (save is np.savez)
        for one, other in zip(epoch_of(mixed), epoch_of(mixed_images()), strict=True):
            np.testing.assert_array_equal(one, other)

    @pytest.mark.parametrize("workers", [1, 2])
    def test_fit_gives_each_epoch_its_order(self, workers):
        class Recording(MixedImages):
            def __getitem__(self, index):
                batch = super().__getitem__(index)
                given.append((self.epoch, index, tuple(batch[1])))
                return batch

        given = []
        mixed = Recording(
            *numbered(REAL, 0),
            numbered(EXTRA, 100),
            batch_size=10,
            seed=3,
            workers=workers,
        )
        model = keras.Sequential(
            [keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(1)]
        )
        model.compile("sgd", "mse")
        begin = keras.callbacks.LambdaCallback(on_epoch_begin=mixed.set_epoch)
        model.fit(
            mixed,
            epochs=5,
            initial_epoch=3,
            shuffle=False,
            callbacks=[begin],
            verbose=0,
        )
        expected = mixed_images()
        for epoch in (3, 4):
            expected.set_epoch(epoch)
            for index, labels in enumerate(epoch_of(expected)):
                assert (epoch, index, tuple(labels)) in given
        assert mixed.epoch == 5

    def test_soft_labels(self):
        rows = np.eye(4, dtype="float32")
        one = np.zeros((4, 2, 2, 3), "float32")
        _, labels = MixedImages(one, rows, (one, 0.5 * rows), batch_size=3)[0]
        assert labels.shape == (3, 4)
        assert labels.dtype == np.float32

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"extra_share": 1.5}, "`extra_share` to be a finite number"),
            ({"extra_share": 0.001}, "`extra_share` to be a share of which a batch of"),
            ({"extra_share": 0.999}, "has both kinds of images"),
            ({"batch_size": 1}, "`batch_size`"),
            ({"extra": 3}, "`extra` to be a pair"),
            ({"extra": "no.npz"}, r"`extra` to be a \.npz file with the arrays `im"),
            ({"extra": (np.zeros((3, 4, 4, 1), "uint8"), np.arange(3))}, "shape"),
            ({"extra": (np.zeros((3, 2, 2, 1)), np.arange(3))}, "dtype uint8"),
            ({"extra": (np.zeros((3, 2, 2, 1), "uint8"), np.eye(3))}, "labels of sh"),
            ({"extra": (np.zeros((3, 2, 2, 1), "uint8"), np.ones(3))}, "labels of sh"),
            ({"extra": numbered(3, 0, [1, 2])}, "3 images with as many labels"),
            ({"images": np.zeros((4, 4))}, "`images` to be images of shape"),
            ({"labels": [1]}, "20 images with as many labels"),
        ],
    )
    def test_rejects(self, change, message):
        images, labels = numbered(REAL, 0)
        given = {"images": images, "labels": labels, "extra": numbered(9, 0), **change}
        with pytest.raises(ValueError, match=message):
            MixedImages(**given)
