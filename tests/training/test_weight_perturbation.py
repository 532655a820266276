import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import FGSM
from keras_advdef.layers import RandomNoise
from keras_advdef.training import AdversarialTrainingModel
from keras_advdef.training._weight_perturbation import perturbed_weights
from tests.support.nets import busy_net, linear_net, small_net, sparse_loss, weights_of
from tests.support.trades import Trades


def compiled(net, attack=None, *, eager=True, jit=False, **options):
    model = AdversarialTrainingModel(net, attack, seed=1, **options)
    optimizer = keras.optimizers.SGD(0.5)
    model.compile(optimizer, sparse_loss(), run_eagerly=eager, jit_compile=jit)
    return model


def gradients_of(net, loss):
    with tf.GradientTape() as tape:
        value = loss()
    return tape.gradient(value, net.trainable_variables)


def by_hand(net, loss, size, rate=0.5):
    """Returns the weights after a step, from the paper's formula."""
    start = [np.array(each) for each in net.trainable_variables]
    for variable, slope in zip(
        net.trainable_variables, gradients_of(net, loss), strict=True
    ):
        if len(variable.shape) > 1:
            length = size * np.linalg.norm(variable) / np.linalg.norm(slope)
            variable.assign_add(length * slope)
    return [
        value - rate * slope
        for value, slope in zip(start, gradients_of(net, loss), strict=True)
    ]


class TestPerturbedWeights:
    @pytest.mark.parametrize("jit", [None, False, True])
    def test_each_kernel_moves_by_its_share_and_comes_back(self, jit, images, labels):
        net = busy_net()
        before = weights_of(net)
        starts = [np.array(each) for each in net.trainable_variables]

        def inside():
            def loss():
                return sparse_loss()(labels, net(images, training=True))

            with perturbed_weights(net.trainable_variables, loss, 0.01):
                return [tf.identity(each) for each in net.trainable_variables]

        function = inside if jit is None else tf.function(inside, jit_compile=jit)
        shares = []
        for start, moved in zip(starts, function(), strict=True):
            if start.ndim == 1:
                np.testing.assert_array_equal(moved, start)
            else:
                share = np.linalg.norm(moved - start) / np.linalg.norm(start)
                shares.append(share)
        np.testing.assert_allclose(shares, [0.01] * 3, rtol=1e-3)
        # Weights, moving statistics and random states.
        for value, kept in zip(weights_of(net), before, strict=True):
            np.testing.assert_array_equal(value, kept)

    def test_weights_come_back_after_an_error(self, images):
        net = small_net()
        before = weights_of(net)
        loss = lambda: tf.reduce_sum(net(images))  # noqa: E731
        with (
            pytest.raises(KeyError),
            perturbed_weights(net.trainable_variables, loss, 0.5),
        ):
            raise KeyError
        for value, kept in zip(weights_of(net), before, strict=True):
            np.testing.assert_array_equal(value, kept)

    @pytest.mark.parametrize("slope", [0.0, 1e-30, 1e30, np.inf, np.nan])
    def test_any_size_of_gradient(self, slope):
        net = linear_net(np.array([[1.0, 2.0], [3.0, -1.0]]), np.zeros(2))
        kernel = net.trainable_variables[0]
        start = kernel.numpy()
        loss = lambda: slope * kernel[0, 0] + slope * kernel[1, 1]  # noqa: E731
        with perturbed_weights(net.trainable_variables, loss, 0.1):
            moved = kernel.numpy() - start
        length = 0.1 * np.linalg.norm(start) / np.sqrt(2)
        known = np.isfinite(slope) and slope > 0
        expected = length * np.eye(2) if known else np.zeros((2, 2))
        np.testing.assert_allclose(moved, expected, atol=1e-6)

    def test_a_net_without_kernels(self, images):
        net = keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                keras.layers.BatchNormalization(),
                keras.layers.Flatten(),
            ]
        )

        def loss():
            raise AssertionError

        with perturbed_weights(net.trainable_variables, loss, 0.1):
            assert float(net.trainable_variables[0][0]) == 1.0


class TestTraining:
    def test_a_step_of_a_linear_net_is_that_of_numpy(self):
        matrix = np.array([[1.0, -2.0], [0.5, 1.0]])
        net = linear_net(matrix, np.array([0.1, -0.1]))
        x, y = np.array([[0.2, 0.6], [0.9, 0.1]]), np.array([0, 1])

        def slopes(weights, bias):
            logits = np.exp(x @ weights.T + bias)
            error = logits / logits.sum(axis=1, keepdims=True) - np.eye(2)[y]
            return error.T @ x / 2, error.mean(axis=0)

        bias = np.array([0.1, -0.1])
        first, _ = slopes(matrix, bias)
        moved = matrix + 0.3 * np.linalg.norm(matrix) / np.linalg.norm(first) * first
        slope, bias_slope = slopes(moved, bias)
        model = compiled(net, weight_perturbation=0.3)
        model.train_on_batch(x.reshape(2, 2, 1, 1).astype("float32"), y)
        kernel, found_bias = net.get_weights()
        np.testing.assert_allclose(kernel.T, matrix - 0.5 * slope, atol=1e-6)
        np.testing.assert_allclose(found_bias, bias - 0.5 * bias_slope, atol=1e-6)

    def test_zero_is_plain_training_to_the_bit(self, images, labels):
        found = []
        for options in ({}, {"weight_perturbation": 0.0}, {"weight_perturbation": 0.1}):
            keras.utils.set_random_seed(0)
            net = busy_net()
            model = compiled(net, FGSM(0.1), **options)
            model.fit(images, labels, batch_size=3, verbose=0)
            found.append(weights_of(net))
        for one, other, moved in zip(*found, strict=True):
            np.testing.assert_array_equal(one, other)
            assert np.any(one != moved) or one.dtype.kind == "i" or not one.any()

    def test_clean_and_adversarial_term(self, images, labels):
        """The direction and the update are both of the whole objective."""
        net, twin = small_net(), small_net()
        twin.set_weights(net.get_weights())
        model = compiled(
            net,
            FGSM(0.1, random_start="gaussian"),
            objective=Trades(),
            weight_perturbation=0.1,
        )
        adversarial = []
        prepare = model.prepare

        def watched(*arguments):
            prepared = prepare(*arguments)
            adversarial.extend(prepared.batches)
            return prepared

        model.prepare = watched
        model.fit(images, labels, batch_size=6, shuffle=False, verbose=0)

        def loss():
            clean, other = twin(images), twin(adversarial[0])
            wanted, found = tf.nn.log_softmax(clean), tf.nn.log_softmax(other)
            gap = tf.reduce_sum(tf.exp(wanted) * (wanted - found), axis=-1)
            return sparse_loss()(labels, clean) + 6.0 * tf.reduce_mean(gap)

        for one, other in zip(net.get_weights(), by_hand(twin, loss, 0.1), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)

    @pytest.mark.parametrize("eager", [True, False])
    def test_all_else_happens_once(self, eager, images, labels):
        def net():
            keras.utils.set_random_seed(3)
            return keras.Sequential(
                [
                    keras.Input((8, 8, 1)),
                    RandomNoise(0.1, seed=4),
                    keras.layers.Conv2D(
                        4, 3, kernel_regularizer="l2", activity_regularizer="l2"
                    ),
                    keras.layers.BatchNormalization(momentum=0.5),
                    keras.layers.Dropout(0.5, seed=5),
                    keras.layers.Flatten(),
                    keras.layers.Dense(3),
                ]
            )

        found, twin = net(), net()
        model = compiled(found, weight_perturbation=0.2, eager=eager)
        history = model.fit(images, labels, shuffle=False, verbose=0).history

        start = [np.array(each) for each in twin.non_trainable_variables]

        def loss():
            # The direction and the update see the same noise.
            for variable, value in zip(
                twin.non_trainable_variables, start, strict=True
            ):
                variable.assign(value)
            outputs = twin(images, training=True)
            losses.append(sparse_loss()(labels, outputs) + sum(twin.losses))
            return losses[-1]

        losses = []
        expected = by_hand(twin, loss, 0.2)
        for one, other in zip(found.trainable_variables, expected, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)
        for one, other in zip(
            found.non_trainable_variables, twin.non_trainable_variables, strict=True
        ):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
        # The loss of the log is that of the update, which is at moved weights.
        assert history["loss"][0] == pytest.approx(float(losses[-1]), rel=1e-5)
        assert float(losses[-1]) > float(losses[0])

    def test_accuracies_count_each_image_once(self, images, labels):
        model = compiled(small_net(), FGSM(0.1), weight_perturbation=0.1)
        model.fit(images, labels, verbose=0)
        _, adversarial = model.accuracies.metrics
        assert float(adversarial.count) == len(images)

    def test_frozen_layers_stay(self, images, labels):
        net = small_net()
        net.layers[0].trainable = False
        frozen = net.layers[0].get_weights()
        model = compiled(net, FGSM(0.1), weight_perturbation=0.5)
        seen = []
        losses_per_example = model.losses_per_example

        def watched(*arguments):
            seen.append([np.array(each) for each in net.weights])
            return losses_per_example(*arguments)

        model.losses_per_example = watched
        model.fit(images, labels, verbose=0)
        for values in (*(each[:2] for each in seen), net.layers[0].get_weights()):
            for value, kept in zip(values, frozen, strict=True):
                np.testing.assert_array_equal(value, kept)
        assert np.any(seen[0][2] != seen[1][2])

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
        model = AdversarialTrainingModel(net, weight_perturbation=0.1)
        before = net.get_weights()
        sgd = keras.optimizers.SGD(0.5)
        model.compile(keras.optimizers.LossScaleOptimizer(sgd, scale), sparse_loss())
        history = model.fit(images, labels, verbose=0).history
        assert np.isfinite(history["loss"]).all()
        after = net.get_weights()
        moved = [np.any(a != b) for a, b in zip(before, after, strict=True)]
        # Too large a scale overflows, and the step is left out as in Keras.
        assert all(moved) if scale < 2.0**20 else not any(moved)

    @pytest.mark.parametrize("jit", [False, True])
    def test_a_step_that_is_not_finite_is_undone(self, jit, images, labels):
        net = busy_net()
        model = compiled(net, weight_perturbation=0.1, eager=False, jit=jit)
        before = weights_of(net)
        images[2, 3, 3] = np.nan
        with pytest.raises(ValueError, match="`images` to be finite"):
            model.fit(images, labels, verbose=0)
        for value, kept in zip(weights_of(net), before, strict=True):
            np.testing.assert_array_equal(value, kept)

    def test_config(self, net):
        model = AdversarialTrainingModel(net, weight_perturbation=0.01)
        twin = AdversarialTrainingModel.from_config(model.get_config())
        assert twin.weight_perturbation == 0.01

    @pytest.mark.parametrize("size", [-0.1, np.nan, "much"])
    def test_wrong_size(self, size, net):
        with pytest.raises((TypeError, ValueError), match="`weight_perturbation`"):
            AdversarialTrainingModel(net, weight_perturbation=size)
