import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import FGSM, PGD
from keras_advdef.callbacks import PerturbationSchedule
from keras_advdef.core.cards import card_of
from keras_advdef.layers import RandomNoise
from keras_advdef.training import FreeAdversarialTrainingModel
from tests.support.nets import busy_net, linear_net, small_net, sparse_loss, weights_of
from tests.support.training_forms import LOSSES
from tests.support.training_forms import small_net as net_of_form

SGD = keras.optimizers.SGD


def compiled(net, *, rate=0.5, eager=True, jit=False, metrics=(), **options):
    options = {"epsilon": 0.1, "replays": 2, **options}
    model = FreeAdversarialTrainingModel(net, **options)
    options = {"run_eagerly": eager, "jit_compile": jit, "metrics": list(metrics)}
    model.compile(SGD(rate), sparse_loss(), **options)
    return model


def kept(model):
    return np.array(model.perturbation.rows)


def fitted(model, images, labels, **options):
    options = {"shuffle": False, "verbose": 0, "batch_size": len(images), **options}
    return model.fit(images, labels, **options).history


def replayed(net, images, labels, start, *, epsilon=0.1, replays=2, rate=0.5):
    """Trains a net as the paper does, and returns where the perturbation ends."""
    delta = start
    for _ in range(replays):
        points = tf.clip_by_value(images + delta, 0.0, 1.0)
        with tf.GradientTape() as tape:
            tape.watch(points)
            loss = sparse_loss()(labels, net(points, training=True))
        weights = net.trainable_variables
        *slopes, slope = tape.gradient(loss, [*weights, points])
        for weight, each in zip(weights, slopes, strict=True):
            weight.assign_sub(rate * each)
        delta = tf.clip_by_value(
            points - images + epsilon * tf.sign(slope), -epsilon, epsilon
        )
        delta = tf.clip_by_value(images + delta, 0.0, 1.0) - images
    return delta


class TestSteps:
    def test_two_batches_are_those_of_the_paper(self, images, labels):
        net, twin = small_net(), small_net()
        twin.set_weights(net.get_weights())
        model = compiled(net, replays=3)
        delta = tf.zeros((3, 8, 8, 1))
        history = fitted(model, images, labels, batch_size=3)
        for part in (slice(0, 3), slice(3, 6)):
            delta = replayed(twin, images[part], labels[part], delta, replays=3)
        assert np.abs(delta).max() > 0.09
        np.testing.assert_allclose(kept(model), delta, atol=1e-6)
        for one, other in zip(net.get_weights(), twin.get_weights(), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)
        assert int(model.optimizer.iterations) == 6
        assert set(history) == {"loss", "adversarial_accuracy"}

    @pytest.mark.parametrize("jit", [False, True])
    def test_traced_steps_are_the_same(self, jit, images, labels):
        found = []
        for options in ({}, {"eager": False, "jit": jit}):
            keras.utils.set_random_seed(0)
            net = small_net()
            model = compiled(net, **options)
            # The last batch has two images.
            history = fitted(model, images, labels, batch_size=4, epochs=2)
            found.append([*net.get_weights(), kept(model), *history.values()])
        for one, other in zip(*found, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)

    def test_a_linear_net_in_closed_form(self):
        """The perturbation of a linear net is its sign at once."""
        matrix = np.array([[1.0, -2.0], [0.0, 0.0]])
        net = linear_net(matrix, np.zeros(2))
        model = compiled(net, rate=0.0, replays=1, epsilon=0.25)
        images = np.array([[0.5, 0.5], [0.1, 0.9]]).reshape(2, 2, 1, 1)
        fitted(model, images.astype("float32"), np.array([0, 1]))
        # Of class 0 the logit falls, of class 1 that of class 0 grows; in [0, 1].
        expected = [[-0.25, 0.25], [0.25, -0.25]]
        np.testing.assert_allclose(kept(model).reshape(2, 2), expected, atol=1e-6)
        loss = fitted(model, images.astype("float32"), np.array([0, 1]))["loss"][0]
        margins = np.array([-0.5 - 0.75, -(0.35 - 2 * 0.65)])
        assert loss == pytest.approx(np.mean(np.log1p(np.exp(-margins))), rel=1e-5)

    def test_one_replay_from_a_reset_perturbation_is_clean_training(
        self, images, labels
    ):
        net, twin = small_net(), small_net()
        twin.set_weights(net.get_weights())
        twin.compile(SGD(0.5), sparse_loss(), run_eagerly=True)
        model = compiled(net, replays=1)
        for part in (slice(0, 3), slice(3, 6)):
            model.train_on_batch(images[part], labels[part])
            twin.train_on_batch(images[part], labels[part])
            model.perturbation.rows.assign(np.zeros((3, 8, 8, 1)))
        for one, other in zip(net.get_weights(), twin.get_weights(), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)
        # Kept, it is another training.
        for part in (slice(0, 3), slice(3, 6)):
            model.train_on_batch(images[part], labels[part])
            twin.train_on_batch(images[part], labels[part])
        apart = np.abs(net.get_weights()[0] - twin.get_weights()[0]).max()
        assert apart > 1e-5

    def test_l2(self, images, labels):
        model = compiled(small_net(), norm="l2", epsilon=0.3)
        # Away from the borders of the range, which would cut the step.
        fitted(model, 0.4 + 0.2 * images, labels)
        norms = np.linalg.norm(kept(model).reshape(6, -1), axis=1)
        np.testing.assert_allclose(norms, 0.3, rtol=1e-4)

    def test_value_range(self, images, labels):
        found = []
        for scale in (1.0, 255.0):
            keras.utils.set_random_seed(0)
            net = small_net(front=[keras.layers.Rescaling(1.0 / scale)])
            model = compiled(net, value_range=(0.0, scale), epsilon=0.1 * scale)
            fitted(model, scale * images, labels)
            found.append([*net.get_weights(), kept(model) / scale])
        for one, other in zip(*found, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)

    def test_a_pixel_pushed_out_of_range_comes_back(self):
        """A black pixel that was to get darker gets brighter for the other class."""
        net = linear_net(np.array([[1.0, 1.0], [0.0, 0.0]]), np.zeros(2))
        model = compiled(net, rate=0.0, replays=1)
        black = np.zeros((1, 2, 1, 1), "float32")
        model.train_on_batch(black, np.array([0]))
        assert not kept(model).any()
        model.train_on_batch(black, np.array([1]))
        np.testing.assert_allclose(kept(model), 0.1)

    def test_augmentation_runs_once(self, images, labels):
        """All replays and the perturbation see the same flipped images."""
        flip = keras.layers.RandomFlip("horizontal", seed=1)
        net = small_net(front=[flip])
        model, seen = compiled(net, replays=3, rate=0.0), []
        losses_per_example = model.losses_per_example

        def watched(images, labels, prepared):
            seen.append(prepared.pixels.numpy())
            return losses_per_example(images, labels, prepared)

        model.losses_per_example = watched
        fitted(model, images, labels)
        flipped = np.any(np.abs(seen[0] - images) > 0.2, axis=(1, 2, 3))
        assert 0 < flipped.sum() < 6
        for each in seen[1:]:
            assert np.abs(each - seen[0]).max() == pytest.approx(0.1, abs=1e-5)


class TestBatches:
    def test_a_small_batch_uses_and_changes_the_first_positions(self, images, labels):
        model = compiled(small_net())
        fitted(model, images, labels)
        before = kept(model)
        fitted(model, images[:2] / 2, labels[:2])
        assert np.all(np.any(kept(model)[:2] != before[:2], axis=(1, 2, 3)))
        np.testing.assert_array_equal(kept(model)[2:], before[2:])

    @pytest.mark.parametrize("eager", [True, False])
    def test_a_large_batch_goes_round(self, eager, images, labels):
        model = compiled(small_net(), rate=0.0, replays=1, eager=eager)
        fitted(model, images[:4], labels[:4])
        start, seen = kept(model), []
        losses_per_example = model.losses_per_example

        def watched(images, labels, prepared):
            tf.py_function(
                lambda each: seen.append(each.numpy()), [prepared.pixels], []
            )
            return losses_per_example(images, labels, prepared)

        model.losses_per_example = watched
        model.make_train_function(force=True)
        fitted(model, images, labels)
        wanted = np.concatenate([start, start[:2]])
        np.testing.assert_allclose(seen[0], np.clip(images + wanted, 0, 1), atol=1e-6)
        assert kept(model).shape == start.shape

    def test_a_data_set_of_unknown_size_is_traced_once(self, images, labels):
        model = compiled(small_net(), eager=False)
        traces, train_on = [], model.train_on

        def counted(*arguments):
            traces.append(None)
            return train_on(*arguments)

        model.train_on = counted
        data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(4)
        model.fit(data, epochs=2, shuffle=False, verbose=0)
        assert kept(model).shape == (4, 8, 8, 1)
        assert len(traces) == 1

    def test_a_loop_of_ones_own(self, images, labels):
        model = compiled(small_net())
        logs = model.train_step((tf.constant(images), tf.constant(labels)))
        assert np.isfinite(float(logs["loss"]))
        blind = compiled(small_net())
        step = tf.function(
            lambda x, y: blind.train_step((x, y)),
            input_signature=[
                tf.TensorSpec((None, 8, 8, 1)),
                tf.TensorSpec((None,), tf.int64),
            ],
        )
        with pytest.raises(ValueError, match="first batch of known shape"):
            step(images, labels)


class TestWithKeras:
    def test_logs(self, images, labels):
        entropy = keras.metrics.SparseCategoricalCrossentropy("ce", from_logits=True)
        model = compiled(
            small_net(),
            validation_attack=PGD(0.1, steps=2),
            seed=1,
            metrics=["accuracy", entropy],
        )
        history = fitted(model, images, labels, validation_data=(images, labels))
        assert set(history) == {
            "loss",
            "adversarial_accuracy",
            "adversarial_ce",
            "val_loss",
            "val_accuracy",
            "val_ce",
            "val_adversarial_accuracy",
        }
        # Means over both replays.
        (_, adversarial) = model.accuracies.metrics
        shown = history["adversarial_ce"][0]
        assert shown == pytest.approx(history["loss"][0], rel=1e-5)
        model.reset_metrics()
        model.train_on_batch(images, labels)
        assert float(adversarial.count) == 12

    @pytest.mark.parametrize("form", LOSSES, ids=str)
    def test_any_loss_and_weights(self, form):
        """Without replays from zero, the update is that of Keras."""
        images = np.random.default_rng(0).uniform(0, 1, (12, 8, 8, 1))
        found = []
        for wrap in (True, False):
            net = net_of_form(form.activation, form.units)
            model = net
            if wrap:
                model = FreeAdversarialTrainingModel(net, epsilon=0.1, replays=1)
            model.compile(SGD(0.5), form.loss(), run_eagerly=True, **form.compiled)
            history = fitted(model, images, form.labels, **form.fitted)
            found.append([*net.get_weights(), history["loss"]])
        for one, other in zip(*found, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)

    def test_an_image_of_weight_zero_does_not_move(self, images, labels):
        model = compiled(small_net())
        weights = np.array([0.0, 1.0, 1.0, 1.0, 1.0, 0.0], "float32")
        fitted(model, images, labels, sample_weight=weights)
        moved = np.any(kept(model) != 0, axis=(1, 2, 3))
        np.testing.assert_array_equal(moved, weights > 0)

    def test_save_load_and_continue(self, images, labels, tmp_path):
        keras.utils.set_random_seed(0)
        options = {"batch_size": 4, "epochs": 1}
        net = small_net(front=[RandomNoise(0.05)])
        model = compiled(net, validation_attack=FGSM(0.1), seed=3)
        model.save(tmp_path / "new.keras")
        assert keras.saving.load_model(tmp_path / "new.keras").perturbation.rows is None
        fitted(model, images, labels, **options)
        model.save(tmp_path / "model.keras")
        again = keras.saving.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(kept(again), kept(model))
        for each in (model, again):
            each.run_eagerly = True
            fitted(each, images, labels, **options)
        for one, other in zip(weights_of(model), weights_of(again), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)
        config = again.get_config()
        shown = {name: config[name] for name in ("epsilon", "replays", "norm", "seed")}
        expected = {"epsilon": 0.1, "replays": 2, "norm": "linf", "seed": 3}
        assert shown == expected
        model.save_weights(tmp_path / "model.weights.h5")
        fresh = compiled(small_net(front=[RandomNoise(0.05)]))
        fresh.load_weights(tmp_path / "model.weights.h5")
        np.testing.assert_array_equal(kept(fresh), kept(model))

    @pytest.mark.parametrize("scale", [2.0**15, 2.0**60])
    def test_half_precision(self, scale, images, labels):
        net = keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                keras.layers.Conv2D(4, 3, dtype="mixed_float16"),
                keras.layers.Flatten(),
                keras.layers.Dense(3, dtype="mixed_float16"),
            ]
        )
        model = FreeAdversarialTrainingModel(net, epsilon=0.1, replays=2)
        before = net.get_weights()[0]
        model.compile(
            keras.optimizers.LossScaleOptimizer(SGD(0.5), scale), sparse_loss()
        )
        history = fitted(model, images, labels)
        assert np.isfinite(history["loss"]).all()
        # Too large a scale overflows, and the steps are left out as in Keras.
        works = scale < 2.0**20
        assert np.any(net.get_weights()[0] != before) == works
        assert kept(model).any() == works

    @pytest.mark.parametrize("eager", [True, False])
    def test_a_batch_that_is_not_finite_is_undone(self, eager, images, labels):
        net = busy_net()
        model = compiled(net, eager=eager)
        fitted(model, images, labels)
        before = [*weights_of(net), kept(model)]
        images[2, 3, 3] = np.nan
        data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(6)
        model.check_training = lambda *_: None
        with pytest.raises(ValueError, match="`images` to be finite"):
            model.fit(data, shuffle=False, verbose=0)
        for one, other in zip([*weights_of(net), kept(model)], before, strict=True):
            np.testing.assert_array_equal(one, other)

    def test_a_later_replay_that_overflows_is_undone(self, images, labels):
        """Of several updates, a later one may be the first to go wrong."""
        net = small_net()
        model = compiled(net, rate=1e30, replays=4)
        before = net.get_weights()
        with pytest.raises(ValueError, match="to be finite, which failed in batch 1"):
            fitted(model, images, labels)
        for one, other in zip(net.get_weights(), before, strict=True):
            np.testing.assert_array_equal(one, other)

    def test_epsilon_can_be_scheduled(self, images, labels):
        model = compiled(small_net())
        schedule = PerturbationSchedule(lambda epoch: 0.02 * (epoch + 1), per="epoch")
        fitted(model, images, labels, epochs=2, callbacks=[schedule])
        assert np.abs(kept(model)).max() == pytest.approx(0.04, rel=1e-4)

    def test_card(self):
        model = FreeAdversarialTrainingModel(small_net(), epsilon=0.1)
        (defended,) = model.defences()
        assert "for Free" in card_of(defended).paper


class TestWrongArguments:
    @pytest.mark.parametrize(
        ("given", "named"),
        [
            ({"replays": 0}, "`replays`"),
            ({"replays": 1.5}, "`replays`"),
            ({"epsilon": 0.0}, "`epsilon`"),
            ({"epsilon": 8}, "`epsilon`"),
            ({"norm": "l1"}, "`norm`"),
            ({"value_range": (1, 0)}, "`value_range`"),
            ({"validation_attack": "PGD"}, "`validation_attack`"),
        ],
    )
    def test_arguments(self, given, named, net):
        with pytest.raises((TypeError, ValueError), match=named):
            FreeAdversarialTrainingModel(net, **{"epsilon": 0.1, **given})

    def test_images_out_of_range(self, images, labels):
        with pytest.raises(ValueError, match="value range"):
            fitted(compiled(small_net()), 255 * images, labels)
