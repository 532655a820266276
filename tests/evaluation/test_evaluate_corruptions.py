import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core.progress import Progress
from keras_advdef.evaluation import evaluate_corruptions
from keras_advdef.evaluation._corrupt.corrupt import corrupt
from keras_advdef.evaluation._corrupt.strength import CORRUPTIONS
from tests.support.nets import linear_net, small_net

COUNT = 21


def counts(report):
    return {
        kind: [estimate.correct for estimate in row.values()]
        for kind, row in report.accuracies.items()
    }


class Heard(Progress):
    def __init__(self):
        self.updates = []

    def update(self, attack, *, left, seconds):
        self.updates.append((attack, left, seconds))


class TestEvaluateCorruptions:
    def test_all_kinds_on_a_trained_net(self, trained_net, digits):
        images, labels = digits.x_test[:COUNT], digits.y_test[:COUNT]
        report = evaluate_corruptions(trained_net, images, labels, verbose=0)
        assert tuple(report.accuracies) == CORRUPTIONS
        assert report.severities == (1, 2, 3, 4, 5)
        right = trained_net.predict(images, verbose=0).argmax(axis=-1) == labels
        assert (report.clean.correct, report.clean.count) == (right.sum(), COUNT)
        # By hand, from the definition.
        for kind in ("fog", "impulse_noise"):
            corrupted = corrupt(images, kind, 5, seed=0)
            found = trained_net.predict(corrupted, verbose=0).argmax(axis=-1)
            assert report.accuracies[kind][5].correct == (found == labels).sum()
        assert report.mean["accuracy"] < report.clean.accuracy
        assert report.examples["fog"].shape == (8, 8, 1)
        np.testing.assert_array_equal(report.examples["none"], images[0])

    def test_batches_value_range_and_dtype_do_not_matter(self, trained_net, digits):
        images, labels = digits.x_test[:COUNT], digits.y_test[:COUNT]
        settings = {"corruptions": ["snow", "glass_blur"], "seed": 3, "verbose": 0}
        expected = counts(evaluate_corruptions(trained_net, images, labels, **settings))
        small = evaluate_corruptions(
            trained_net, images, labels, batch_size=4, **settings
        )
        assert counts(small) == expected
        rescaled = keras.Sequential(
            [keras.Input((8, 8, 1)), keras.layers.Rescaling(1 / 510, 0.5), trained_net]
        )
        wide = evaluate_corruptions(
            rescaled, 510 * images - 255, labels, value_range=(-255, 255), **settings
        )
        assert counts(wide) == expected
        pairs = tf.data.Dataset.from_tensor_slices((images, labels)).batch(8)
        assert counts(evaluate_corruptions(trained_net, pairs, **settings)) == expected

    def test_images_stay_in_the_value_range(self):
        seen = []

        def model(images):
            tf.py_function(lambda x: seen.append(x.numpy()), [images], [])
            return tf.reshape(images, (-1, 64))[:, :2]

        images = np.random.default_rng(0).uniform(-1, 3, (5, 8, 8, 1))
        evaluate_corruptions(
            model, images, [0] * 5, value_range=(-1, 3), severities=[5], verbose=0
        )
        seen = np.concatenate(seen)
        assert seen.min() == -1.0
        assert seen.max() == 3.0

    def test_a_subset_gives_what_all_give(self, trained_net, digits):
        images, labels = digits.x_test[:COUNT], digits.y_test[:COUNT]
        run = lambda **some: evaluate_corruptions(  # noqa: E731
            trained_net, images, labels, verbose=0, **some
        )
        pair = run(corruptions=("shot_noise", "gaussian_noise"), severities=range(2, 5))
        assert [*pair.accuracies] == ["gaussian_noise", "shot_noise"]
        one = run(corruptions=["shot_noise"], severities=np.array([4, 2, 4]))
        assert one.severities == (2, 4)
        assert counts(one)["shot_noise"] == counts(pair)["shot_noise"][::2]

    def test_seed_fixes_the_draws(self, net, images, labels):
        runs = [
            evaluate_corruptions(
                net, images, labels, corruptions=["fog"], seed=seed, verbose=0
            )
            for seed in (1, 1, 2)
        ]
        np.testing.assert_array_equal(runs[0].examples["fog"], runs[1].examples["fog"])
        assert not np.array_equal(runs[0].examples["fog"], runs[2].examples["fog"])

    def test_nan_on_a_corrupted_image_is_a_mistake(self):
        # Only images darker than 0.4 have a logit.
        def model(images):
            mean = tf.reduce_mean(images, axis=(1, 2, 3))
            score = tf.where(mean < 0.4, 1.0, np.nan)
            return tf.stack([score, 0.0 * score], axis=-1)

        report = evaluate_corruptions(
            model,
            np.full((3, 8, 8, 1), 0.35),
            [0, 0, 0],
            corruptions=["brightness"],
            severities=[1, 5],
            verbose=0,
        )
        assert counts(report) == {"brightness": [0, 0]}
        assert report.clean.correct == 3

    def test_tells_what_it_does(self, net, images, labels, capsys):
        heard = Heard()
        settings = {"corruptions": ["fog", "jpeg_compression"], "severities": [1]}
        evaluate_corruptions(net, images, labels, verbose=heard, **settings)
        assert [each[:2] for each in heard.updates] == [
            ("fog", 6),
            ("JPEG compression", 6),
        ]
        assert heard.updates[0][2] is None
        assert heard.updates[1][2] > 0
        evaluate_corruptions(net, images, labels, **settings)
        assert "fog: 6 images left\n" in capsys.readouterr().out

    def test_odd_sizes_in_colour(self):
        net = linear_net(np.ones((2, 33 * 17 * 3)), [0.0, 1.0], shape=(33, 17, 3))
        images = np.random.default_rng(0).random((5, 33, 17, 3))
        report = evaluate_corruptions(
            net, images, [1] * 5, batch_size=2, severities=[3], verbose=0
        )
        assert report.mean["accuracy"] == 1.0


REFUSED = [
    ({"corruptions": ["fogg"]}, "`corruptions` to be one of 'gaussian_noise', .*fogg"),
    ({"corruptions": [3]}, "`corruptions` to be one of"),
    ({"corruptions": "fog"}, "`corruptions` to be a list of names"),
    ({"corruptions": []}, "`corruptions` to be a list of names"),
    ({"severities": []}, "`severities` to be a list of integers"),
    ({"severities": 3}, "`severities` to be a list of integers"),
    ({"severities": [0]}, r"`severities` to be an integer in \[1, 5\]"),
    ({"severities": [1.5]}, r"`severities` to be an integer in \[1, 5\]"),
    ({"batch_size": 0}, "`batch_size` to be an integer"),
    ({"seed": -1}, "`seed` to be an integer"),
    ({"value_range": (1, 0)}, "`value_range` to be a pair"),
    ({"images": np.full((6, 8, 8, 1), 2.0)}, "`images` to be in the value range"),
    (
        {"images": np.full((6, 9, 8, 1), 0.5)},
        "`images` to be of the shape that the mod",
    ),
    ({"labels": None}, "`labels` to be given"),
    ({"labels": [0, 1]}, "`labels` to be as many as the images"),
    ({"labels": [7] * 6}, r"`labels` to be in \[0, 3\)"),
    ({"model": keras.Sequential()}, "`model` to be a classifier with one image input"),
    (
        {"model": lambda images: tf.sqrt(-images[:, 0, :3, 0])},
        "`model` to be a model with finite logits",
    ),
]


@pytest.mark.parametrize(("changes", "sentence"), REFUSED)
def test_refusals(changes, sentence, images, labels):
    arguments = {"images": images, "labels": labels, "verbose": 0, **changes}
    model = arguments.pop("model", None) or small_net()
    with pytest.raises(ValueError, match=f"^`evaluate_corruptions` expects {sentence}"):
        evaluate_corruptions(model, **arguments)
