import itertools
import os

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import PGD
from keras_advdef.core import untrusted
from keras_advdef.core.export_model import export_model
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.random_numbers import make_key
from keras_advdef.core.random_state import draw_scope
from keras_advdef.evaluation._request import served_model
from keras_advdef.evaluation._request.served_model import ServedModel
from keras_advdef.layers import BitDepthReduction, RandomNoise
from tests.support.marks import needs_pipes
from tests.support.nets import linear_net, small_net
from tests.support.threads import THREADS, called_by_threads


@pytest.fixture
def served(tmp_path):
    def serve(model):
        model.export(tmp_path / "served", verbose=False)
        return ServedModel(tmp_path / "served")

    return serve


def gradient(model, images):
    images = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(images)
        total = tf.reduce_sum(model(images) * [1.0, 2.0, -3.0])
    return tape.gradient(total, images)


class TestServedModel:
    def test_is_the_model(self, net, images, served):
        model = served(net)
        np.testing.assert_allclose(model(images), net(images), atol=1e-6)
        expected = gradient(net, images)
        np.testing.assert_allclose(gradient(model, images), expected, atol=1e-6)
        assert model.image_shape == (8, 8, 1)
        assert len(model.weights()) == len(net.weights)

    def test_model_of_maps(self, images, served):
        flat = [keras.layers.Flatten(), keras.layers.Dense(3)]
        net = keras.Sequential([keras.Input((8, 8)), *flat])
        model = served(net)
        assert model.image_shape == (8, 8, 1)
        np.testing.assert_allclose(model(images), net(images[..., 0]), atol=1e-6)

    def test_model_of_whole_numbers_is_told(self, served):
        net = keras.Sequential(
            [keras.Input((8, 8, 1), dtype="uint8"), keras.layers.Rescaling(1 / 255)]
        )
        with pytest.warns(UserWarning, match="takes uint8, which cuts off"):
            served(net)

    def test_straight_through_gradient_survives(self, images, served):
        net = small_net(front=[BitDepthReduction(2)])
        found = gradient(served(net), images)
        np.testing.assert_allclose(found, gradient(net, images), atol=1e-6)
        assert np.any(found)

    def test_images_are_cast(self, net, images, served):
        expected = net(images)
        found = served(net)(tf.constant(images, tf.float64))
        np.testing.assert_allclose(found, expected, atol=1e-6)

    def test_attacks_reach_it(self, served):
        net = linear_net([[0.0, 0.0], [1.0, -1.0]], [0.0, 0.0])
        images = np.array([[0.6, 0.5], [0.9, 0.2]], "float32").reshape(2, 2, 1, 1)
        attack = PGD(0.1, steps=5)
        found = attack.generate(served(net), images, [1, 1], seed=0, verbose=0)
        expected = [[0.5, 0.6], [0.8, 0.3]]
        np.testing.assert_allclose(found.reshape(2, 2), expected, atol=1e-6)

    def test_draws_come_from_the_scope(self, images, served):
        model = served(small_net(front=[RandomNoise(0.1), RandomNoise(0.1)]))

        def logits(seed):
            with draw_scope(make_key(seed)):
                return model(images).numpy()

        first, again, other = logits(1), logits(1), logits(2)
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)
        # Outside a scope, each call draws fresh values.
        assert not np.array_equal(model(images), model(images))

    def test_two_layers_draw_apart(self, served):
        # What the second one adds is not what the first one added.
        inputs = keras.Input((8, 8, 1))
        first, second = RandomNoise(1.0)(inputs), RandomNoise(1.0)(inputs)
        difference = keras.layers.Flatten()(first - second)
        model = served(keras.Model(inputs, difference))
        with draw_scope(make_key(0)):
            assert np.std(model(np.zeros((4, 8, 8, 1), "float32"))) > 1.0

    def test_scope_works_in_a_graph(self, images, served):
        model = LogitsFunction(served(small_net(front=[RandomNoise(0.1)])))

        @tf.function
        def logits(key):
            with draw_scope(key):
                return model(tf.constant(images))

        first, again, other = (logits(make_key(seed)).numpy() for seed in (1, 1, 2))
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)

    def test_a_scope_leaves_its_own_stream_alone(self, images, served):
        model = served(small_net(front=[RandomNoise(0.1)]))
        (state,) = model._states
        before = state.numpy()
        call = tf.function(model)
        with draw_scope(make_key(0)):
            eager = model(images)
        np.testing.assert_array_equal(state, before)
        model(images)
        call(images)
        assert state.numpy().tolist() == [before[0] + 512, *before[1:]]
        with draw_scope(make_key(0)):
            np.testing.assert_array_equal(model(images), eager)

    def test_threads_draw_from_scopes_of_their_own(self, images, served):
        model = served(small_net(front=[RandomNoise(0.1)]))
        images = tf.constant(images)

        def scoped(key):
            with draw_scope(key):
                return model(images)

        ways = scoped, tf.function(scoped)
        keys = [make_key(seed) for seed in range(THREADS)]
        alone = [scoped(key).numpy() for key in keys]
        turns, fresh = itertools.count(), []

        def errors():
            turn = next(turns) % THREADS
            fresh.append(model(images).numpy())
            return [np.abs(way(keys[turn]) - alone[turn]).max() for way in ways]

        assert np.max(called_by_threads(errors, 80)) < 1e-6
        # Those without a scope meanwhile draw what nobody else draws.
        assert len({draw.tobytes() for draw in (*alone, *fresh)}) == THREADS + 80

    def test_says_how_to_export_a_model_that_augments(self, images, tmp_path):
        net = small_net(front=[keras.layers.RandomFlip(), keras.layers.Dropout(0.5)])
        # Keras's own export, then that of this package.
        net.export(tmp_path / "plain", verbose=False)
        with pytest.warns(
            UserWarning, match=r"augments its images: .* with training=Fal"
        ):
            model = ServedModel(tmp_path / "plain")
        assert model.augments
        assert not np.array_equal(model(images), model(images))
        export_model(net, tmp_path / "served", verbose=False)
        model = ServedModel(tmp_path / "served")
        assert not model.augments
        np.testing.assert_array_equal(model(images), model(images))

    def test_defences_are_no_augmentation(self, served):
        assert not served(small_net(front=[RandomNoise(0.1)])).augments

    def test_cards(self, served):
        net = small_net(front=[BitDepthReduction(2)])
        assert list(served(net).cards) == ["BitDepthReduction"]


class Adds(tf.Module):
    """Two inputs, one output."""

    @tf.function
    def __call__(self, first, second):
        return {"sum": first + second}


class Odd(tf.Module):
    """A classifier with variables whose names only sound like a random layer's."""

    def __init__(self):
        super().__init__()
        self.first = tf.Variable(1.0, name="random_state")
        self.second = tf.Variable([1, 2], name="my_random_state", dtype=tf.int32)

    @tf.function(input_signature=[tf.TensorSpec((None, 2, 2, 1))])
    def __call__(self, images):
        sums = tf.reduce_sum(images, axis=(1, 2))
        scale = self.first * tf.cast(self.second, tf.float32)
        return {"logits": sums * scale}


def test_states_of_others_are_left_alone(tmp_path):
    module = Odd()
    tf.saved_model.save(module, str(tmp_path), signatures=module.__call__)
    served = ServedModel(tmp_path)
    with draw_scope(make_key(0)):
        assert served(tf.ones((1, 2, 2, 1))).numpy().tolist() == [[4.0, 8.0]]


class TestRejections:
    @needs_pipes
    @pytest.mark.parametrize(
        "name", ["fingerprint.pb", "variables/variables.index", "assets/words.txt"]
    )
    def test_pipes_are_not_waited_for(self, net, tmp_path, name):
        net.export(str(tmp_path), verbose=False)
        (tmp_path / name).unlink(missing_ok=True)
        os.mkfifo(tmp_path / name)
        with pytest.raises(ValueError, match="It is not a regular file"):
            ServedModel(tmp_path)

    def test_one_image_larger_than_memory(self, tmp_path, monkeypatch):
        module = Odd()
        tf.saved_model.save(module, str(tmp_path), signatures=module.__call__)
        monkeypatch.setattr(untrusted, "memory_budget", lambda: 15)
        monkeypatch.setattr(served_model, "cards_in", lambda folder: {})
        with pytest.raises(ValueError, match="One image would take 16 bytes"):
            ServedModel(tmp_path)

    def test_nothing_there(self, tmp_path):
        rule = "`folder` to be a SavedModel with one image input"
        with pytest.raises(ValueError, match=rule):
            ServedModel(tmp_path)

    def test_no_signature(self, tmp_path):
        tf.saved_model.save(tf.Module(), str(tmp_path))
        with pytest.raises(ValueError, match=r"signatures: none\. Write it with"):
            ServedModel(tmp_path)

    def test_other_signature(self, tmp_path):
        module, spec = Adds(), tf.TensorSpec((None, 2))
        signature = module.__call__.get_concrete_function(spec, spec)
        tf.saved_model.save(module, str(tmp_path), signatures={"add": signature})
        with pytest.raises(ValueError, match="Its signatures: add"):
            ServedModel(tmp_path)

    def test_two_inputs(self, tmp_path):
        module, spec = Adds(), tf.TensorSpec((None, 2))
        signature = module.__call__.get_concrete_function(spec, spec)
        tf.saved_model.save(module, str(tmp_path), signatures=signature)
        with pytest.raises(ValueError, match="one image input and one output"):
            ServedModel(tmp_path)
