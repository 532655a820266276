import concurrent.futures
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import PGD
from keras_advdef.core.gradients import input_gradient
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.model_view import ModelView, replace_call, unwrap_view
from keras_advdef.core.random_numbers import make_key
from keras_advdef.core.random_state import draw_scope
from keras_advdef.layers import (
    BitDepthReduction,
    RandomNoise,
    StochasticActivationPruning,
)
from tests.support.nets import linear_net, small_net
from tests.support.threads import called_by_threads, in_other_thread


def gradient(model, images):
    logits = LogitsFunction(model)
    images = tf.constant(images)
    return input_gradient(lambda x: (logits(x)[:, 0], None), images)[2].numpy()


class Rounding(keras.layers.Layer):
    def call(self, inputs):
        return tf.round(inputs)


class TestModelView:
    def test_identity_gradient_and_back(self, images):
        rounding = Rounding()
        net = small_net(front=[rounding])
        view = ModelView(net, bpda_layers=(rounding,))
        plain = keras.Sequential([keras.Input((8, 8, 1)), *net.layers[1:]])
        expected = gradient(plain, np.round(images))
        np.testing.assert_allclose(gradient(view, images), expected, atol=1e-6)
        np.testing.assert_allclose(LogitsFunction(view)(images), net(images), atol=1e-6)
        assert "call" not in vars(rounding)
        with pytest.raises(ValueError, match="without any gradient"):
            gradient(net, images)

    def test_identity_ends_with_an_error(self, net, images):
        layer = net.layers[0]
        with (
            pytest.raises(ZeroDivisionError),
            ModelView(net, bpda_layers=(layer,)).applied(),
        ):
            raise ZeroDivisionError
        assert "call" not in vars(layer)

    def test_identity_is_local_to_its_thread(self, images):
        rounding = Rounding()
        net = small_net(front=[rounding])
        view = ModelView(net, bpda_layers=(rounding,))
        expected = gradient(view, images)
        with view.applied():
            with pytest.raises(ValueError, match="without any gradient"):
                in_other_thread(lambda: gradient(net, images))
            # Another one that ends in between changes nothing.
            found = in_other_thread(lambda: gradient(view, images))
            np.testing.assert_array_equal(found, expected)
            np.testing.assert_array_equal(gradient(net, images), expected)
        assert "call" not in vars(rounding)

    def test_identity_of_many_threads(self, images):
        layer = StochasticActivationPruning(fraction=2.0, seed=3)
        net = small_net(front=[keras.layers.ReLU(), layer])
        view = ModelView(net, bpda_layers=(layer,))

        def look():
            with draw_scope(make_key(3)):
                return gradient(view, images)

        expected = look()
        for found in called_by_threads(look, 24):
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
        assert "call" not in vars(layer)

    def test_temperature(self, net, images):
        cold = LogitsFunction(net)(images)
        hot = LogitsFunction(ModelView(net, temperature=4.0))(images)
        np.testing.assert_allclose(4.0 * hot, cold, rtol=1e-6)

    def test_no_gradient_is_zero_and_not_missing(self, net, images):
        view = ModelView(net, has_gradient=False)
        assert not gradient(view, images).any()
        logits = LogitsFunction(view)(tf.constant(images))
        np.testing.assert_array_equal(logits, net(images))

    def test_unaware(self, images):
        net = small_net(front=[BitDepthReduction(1)])
        plain = keras.Sequential([keras.Input((8, 8, 1)), *net.layers[1:]])
        seen = LogitsFunction(ModelView(net, bypass_defences=True))(images)
        np.testing.assert_allclose(seen, plain(images), atol=1e-6)

    @pytest.mark.parametrize("is_random", [True, False])
    def test_says_whether_it_is_random(self, is_random, net):
        view = ModelView(net, is_random=is_random)
        assert LogitsFunction(view).is_random is is_random

    def test_attacks_take_a_view(self):
        net = linear_net([[0.0, 0.0], [1.0, -1.0]], [0.0, 0.0])
        images = np.array([0.55, 0.5], "float32").reshape(1, 2, 1, 1)
        blind = ModelView(net, has_gradient=False)
        attack = PGD(0.1, random_start=False)
        for model, moved in ((ModelView(net), True), (blind, False)):
            found = attack.generate(model, images, [1], seed=0, verbose=0)
            assert (np.abs(found - images) > 0.05).any() == moved

    def test_bfloat16(self, net, images):
        exact = LogitsFunction(net)(images)
        view = ModelView(net, temperature=2.0)
        fast = LogitsFunction(view, precision="bfloat16")
        np.testing.assert_allclose(2.0 * fast(images), exact, atol=0.05)
        np.testing.assert_allclose(2.0 * fast.full_precision(images), exact, atol=1e-6)


def test_unwrap_view(net):
    assert unwrap_view(ModelView(net)) is net
    assert unwrap_view(net) is net


class TestReplacedCall:
    def test_threads_that_leave_in_another_order(self):
        layer = keras.layers.ReLU()
        entered, leave = threading.Event(), threading.Event()

        def hold():
            with replace_call(layer, lambda relu: lambda inputs: relu(inputs) + 1.0):
                entered.set()
                assert leave.wait(60)
                return float(layer(tf.constant(2.0)))

        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            with replace_call(layer, lambda relu: lambda inputs: relu(inputs) * 5.0):
                held = pool.submit(hold)
                assert entered.wait(60)
                assert float(layer(tf.constant(2.0))) == 10.0
            assert float(layer(tf.constant(2.0))) == 2.0
            leave.set()
            assert held.result() == 3.0
        assert "call" not in vars(layer)

    def test_one_around_another(self):
        layer = keras.layers.ReLU()
        with replace_call(layer, lambda relu: lambda inputs: relu(inputs) + 1.0):
            with replace_call(layer, lambda call: lambda inputs: call(inputs) * 5.0):
                assert float(layer(tf.constant(2.0))) == 15.0
            assert float(layer(tf.constant(2.0))) == 3.0
        assert float(layer(tf.constant(2.0))) == 2.0


class Traced(keras.Model):
    """A net whose `call` is a `tf.function` with a Python condition."""

    def __init__(self, front):
        super().__init__()
        self.front = front
        self.rest = small_net()

    @tf.function
    def call(self, images):
        if tf.reduce_sum(images) > 1e9:
            images = 0.0 * images
        return self.rest(self.front(images))


class TracedWithin(Traced):
    """The same with a function that is hidden inside."""

    def __init__(self, front):
        super().__init__(front)
        self.within = tf.function(lambda images: self.rest(self.front(images)))

    def call(self, images):
        return self.within(images)


class TestTracedModels:
    """A trace made during an attack outlives the attack."""

    @pytest.mark.parametrize("before", [False, True])
    def test_views_hold_and_end(self, before, images):
        rounding = BitDepthReduction(1)
        net = Traced(rounding)
        images = tf.constant(images)
        plain, rounded = net.rest(images), net.rest(tf.round(images))
        if before:
            net(images)
        else:
            net.built = True
        view = LogitsFunction(ModelView(net, bypass_defences=True))
        np.testing.assert_allclose(view(images), plain, atol=1e-6)
        np.testing.assert_allclose(net(images), rounded, atol=1e-6)
        np.testing.assert_allclose(LogitsFunction(net)(images), rounded, atol=1e-6)

    def test_identity_gradient(self, images):
        net = Traced(Rounding())
        net(images)
        expected = gradient(net.rest, np.round(images))
        view = ModelView(net, bpda_layers=(net.front,))
        np.testing.assert_allclose(gradient(view, images), expected, atol=1e-6)
        with pytest.raises(ValueError, match="without any gradient"):
            gradient(net, images)
        assert "call" not in vars(net)

    @pytest.mark.parametrize("way", ["eager", "graph"])
    def test_draws_come_from_the_scope_and_go_on_after_it(self, way, images):
        net = Traced(RandomNoise(0.5, seed=3))
        net.built = True
        function = LogitsFunction(net)

        def scoped(key):
            with draw_scope(key):
                return function(tf.constant(images))

        call = scoped if way == "eager" else tf.function(scoped)
        first, again, other = (call(make_key(key)).numpy() for key in (1, 1, 2))
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)
        assert net.front.random_state.numpy()[0] == 0
        assert not np.array_equal(net(images), net(images))

    @pytest.mark.parametrize("kind", [Traced, TracedWithin])
    @pytest.mark.parametrize("first", ["attack", "functional"])
    def test_no_draw_comes_twice(self, kind, first, images):
        net = kind(RandomNoise(0.5))
        images = tf.constant(images)
        if first == "attack":
            net.built = True
            LogitsFunction(net)(images)
            model = net
        else:
            inputs = keras.Input((8, 8, 1))
            model = keras.Model(inputs, net(inputs))
        draws = [model(images), net(images), model(images), net(images)]
        draws += [model.predict(images, verbose=0) for _ in range(2)]
        assert len({np.asarray(draw).tobytes() for draw in draws}) == 6
