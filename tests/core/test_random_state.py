import inspect
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core.random_numbers import fold_in, make_key, uniform
from keras_advdef.core.random_state import (
    RandomLayer,
    checked_seed,
    draw_scope,
    reseed,
    scope_key,
    shared_pass_key,
)
from keras_advdef.layers import BitDepthReduction, RandomNoise
from tests.support.fresh_process import run_fresh
from tests.support.nets import small_net


@keras.saving.register_keras_serializable(package="tests")
class Draw(RandomLayer):
    """Adds uniforms; the smallest layer that draws."""

    def call(self, inputs):
        return inputs + uniform(self.next_key(), tf.unstack(tf.shape(inputs)))


class Still(RandomLayer):
    draws = False

    def call(self, inputs):
        return inputs


def _state(layer):
    return layer.random_state.numpy().tolist()


_ZEROS = np.zeros((2, 3), np.float32)


class TestCheckedSeed:
    @pytest.mark.parametrize("seed", [None, 0, 2**31 - 1])
    def test_keeps_what_can_start_a_stream(self, seed):
        assert checked_seed("Layer", seed) == seed

    @pytest.mark.parametrize("seed", [-1, 2**31, 1.5, True, "3"])
    def test_rejects_seed(self, seed):
        rule = r"`Layer` expects `seed` to be an integer in \[0, 2147483647\]"
        with pytest.raises(ValueError, match=rule):
            checked_seed("Layer", seed)

    def test_deterministic_layers_reject_it_too(self):
        with pytest.raises(ValueError, match="`BitDepthReduction` expects `seed`"):
            BitDepthReduction(3, seed="x")


class TestScopeKey:
    def test_outside_there_is_none(self):
        assert scope_key() is None

    def test_inside_every_draw_gets_another(self):
        with draw_scope(make_key(3)):
            keys = [scope_key() for _ in range(4)]
        assert len({tuple(key.numpy()) for key in keys}) == 4


class TestDrawScope:
    def test_same_key_same_draws_and_no_trace(self):
        layer = Draw(seed=5)
        draws = []
        for key in (7, 7, 8):
            with draw_scope(make_key(key)):
                draws.append(layer(_ZEROS).numpy())
        np.testing.assert_array_equal(draws[0], draws[1])
        assert not np.any(draws[0] == draws[2])
        assert _state(layer) == [0, 0, 5]

    def test_what_was_drawn_outside_does_not_matter(self):
        layer = Draw(seed=5)
        draws = []
        for _ in range(2):
            with draw_scope(make_key(7)):
                draws.append(layer(_ZEROS).numpy())
            layer(_ZEROS)
        np.testing.assert_array_equal(*draws)

    def test_nested_scopes_restore_the_outer_one(self):
        layer = Draw(seed=5)
        with draw_scope(make_key(7)):
            expected = [layer(_ZEROS).numpy() for _ in range(2)]
        with draw_scope(make_key(7)):
            first = layer(_ZEROS).numpy()
            with draw_scope(make_key(8)):
                inner = layer(_ZEROS).numpy()
            second = layer(_ZEROS).numpy()
        np.testing.assert_array_equal([first, second], expected)
        assert not np.any(inner == first)

    def test_an_error_ends_the_scope(self):
        with pytest.raises(KeyError), draw_scope(make_key(7)):
            raise KeyError
        assert scope_key() is None

    def test_a_shared_layer_draws_afresh_in_each_call(self):
        layer = Draw(seed=5)
        with draw_scope(make_key(7)):
            first, second = layer(_ZEROS).numpy(), layer(_ZEROS).numpy()
        assert not np.any(first == second)

    def test_layers_are_told_apart_by_their_order_alone(self):
        draws = []
        for names in (("a", "b"), ("c", "d")):
            layers = [Draw(name=name, seed=1) for name in names]
            with draw_scope(make_key(7)):
                draws.append([layer(_ZEROS).numpy() for layer in layers])
        np.testing.assert_array_equal(*draws)
        assert not np.any(draws[0][0] == draws[0][1])

    def test_is_local_to_its_thread(self):
        seen = []
        with draw_scope(make_key(7)):
            thread = threading.Thread(target=lambda: seen.append(scope_key()))
            thread.start()
            thread.join()
            assert scope_key() is not None
        assert seen == [None]

    def test_equal_in_every_mode(self, in_every_mode):
        layer = Draw(seed=5)

        def draw(images, key):
            with draw_scope(key):
                return layer(images)

        eager, graph, compiled = in_every_mode(draw, tf.constant(_ZEROS), make_key(7))
        np.testing.assert_array_equal(eager, graph)
        np.testing.assert_array_equal(eager, compiled)
        assert _state(layer) == [0, 0, 5]

    def test_ends_at_a_function_that_is_traced_within(self):
        layer, fresh = Draw(seed=5), Draw(seed=5)
        traced = tf.function(layer)
        with draw_scope(make_key(7)):
            draws = [traced(_ZEROS), traced(_ZEROS)]
        draws.append(tf.function(traced)(_ZEROS))
        np.testing.assert_array_equal(draws, [fresh(_ZEROS) for _ in range(3)])

        @tf.function
        def around():
            with draw_scope(make_key(7)):
                return traced(_ZEROS), layer(_ZEROS)

        inner, scoped = around()
        np.testing.assert_array_equal(inner, fresh(_ZEROS))
        with draw_scope(make_key(7)):
            np.testing.assert_array_equal(scoped, layer(_ZEROS))
        assert _state(layer) == _state(fresh)

    def test_reaches_into_loops_and_branches(self):
        layer = Draw(seed=5)

        @tf.function
        def branch(key, taken):
            with draw_scope(key):
                return tf.cond(
                    taken,
                    lambda: tf.map_fn(layer, tf.constant(_ZEROS[None]))[0],
                    lambda: tf.constant(_ZEROS),
                )

        found = branch(make_key(7), tf.constant(True))
        with draw_scope(make_key(7)):
            np.testing.assert_array_equal(found, layer(_ZEROS))
        assert _state(layer) == [0, 0, 5]

    def test_another_draw_in_each_turn_of_a_loop(self):
        layer = Draw(seed=5)

        @tf.function
        def loop(key):
            draws = tf.TensorArray(tf.float32, 4)
            for step in tf.range(4):
                with draw_scope(fold_in(key, step)):
                    draws = draws.write(step, layer(tf.constant(_ZEROS)))
            return draws.stack()

        draws = loop(make_key(7)).numpy()
        assert len(np.unique(draws)) == draws.size
        np.testing.assert_array_equal(draws, loop(make_key(7)))


class TestRandomLayer:
    @pytest.mark.parametrize("seed", [-1, 2**31, 1.5, True, "3"])
    def test_rejects_seed(self, seed):
        rule = r"`Draw` expects `seed` to be an integer in \[0, 2147483647\]"
        with pytest.raises(ValueError, match=rule):
            Draw(seed=seed)

    def test_config_round_trip(self):
        copy = Draw.from_config(Draw(seed=5, name="noise").get_config())
        assert (copy.seed, copy.name) == (5, "noise")
        assert Draw.from_config(Draw().get_config()).seed is None

    def test_a_subclass_without_draws_has_no_state(self):
        assert Still(seed=3).variables == []

    def test_equal_seeds_draw_equally(self):
        one, other = Draw(seed=5), Draw(seed=5)
        for _ in range(2):
            np.testing.assert_array_equal(one(_ZEROS), other(_ZEROS))

    def test_set_random_seed_reproduces_layers_without_seed(self):
        draws = []
        for _ in range(2):
            keras.utils.set_random_seed(3)
            layers = [Draw(), Draw()]
            draws.append([layer(_ZEROS).numpy() for layer in layers])
        np.testing.assert_array_equal(draws[0], draws[1])
        assert not np.any(draws[0][0] == draws[0][1])

    def test_the_counter_moves_once_a_call(self, in_every_mode):
        layer = Draw(seed=5)
        draws = in_every_mode(layer, tf.constant(_ZEROS))
        assert _state(layer) == [768, 0, 5]
        # The same stream in all modes: draw `n` is that of a fresh layer's call `n`.
        fresh = Draw(seed=5)
        np.testing.assert_array_equal(draws, [fresh(_ZEROS) for _ in range(3)])

    def test_predict_draws_afresh_in_each_batch(self):
        model = keras.Sequential([keras.Input((3,)), Draw(seed=5)])
        draws = model.predict(np.zeros((4, 3)), batch_size=2, verbose=0)
        assert len(np.unique(draws)) == 12
        assert _state(model.layers[0]) == [512, 0, 5]

    @pytest.mark.parametrize("training", [False, True])
    def test_draws_whatever_training_says(self, training):
        assert np.ptp(Draw()(_ZEROS, training=training)) > 0

    def test_gradients_pass_through_the_draw(self):
        images = tf.constant(_ZEROS)
        with tf.GradientTape() as tape:
            tape.watch(images)
            total = tf.reduce_sum(Draw()(images))
        np.testing.assert_array_equal(tape.gradient(total, images), np.ones((2, 3)))


def _drawn_model(calls=3, **kwargs):
    model = keras.Sequential([keras.Input((3,)), Draw(**kwargs)])
    for _ in range(calls):
        model(_ZEROS)
    return model


class TestSaving:
    def test_keras_file(self, tmp_path):
        model = _drawn_model()
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        assert _state(loaded.layers[0]) == _state(model.layers[0])
        assert _state(loaded.layers[0])[0] == 3 * 256
        np.testing.assert_array_equal(model(_ZEROS), loaded(_ZEROS))

    def test_weights_file(self, tmp_path):
        model, other = _drawn_model(seed=1), _drawn_model(calls=0, seed=2)
        model.save_weights(tmp_path / "model.weights.h5")
        other.load_weights(tmp_path / "model.weights.h5")
        assert _state(other.layers[0]) == [768, 0, 1]
        np.testing.assert_array_equal(model(_ZEROS), other(_ZEROS))

    def test_checkpoint(self, tmp_path):
        model, other = _drawn_model(seed=1), _drawn_model(calls=0, seed=2)
        path = tf.train.Checkpoint(model=model).save(tmp_path / "checkpoint")
        tf.train.Checkpoint(model=other).restore(path).assert_consumed()
        assert _state(other.layers[0]) == [768, 0, 1]
        np.testing.assert_array_equal(model(_ZEROS), other(_ZEROS))

    @pytest.mark.parametrize("kind", ["keras", "weights.h5"])
    def test_state_of_version_0_1(self, kind, tmp_path, monkeypatch):
        model, path = _drawn_model(seed=5), tmp_path / f"model.{kind}"
        layer = model.layers[0]

        def save_seed_and_counter(layer, store):
            store["0"] = np.array([5, 3])

        with monkeypatch.context() as patch:
            patch.setattr(Draw, "save_own_variables", save_seed_and_counter)
            (model.save if kind == "keras" else model.save_weights)(path)
        layer.random_state.assign([0, 0, 0])
        if kind == "keras":
            model = keras.saving.load_model(path)
        else:
            model.load_weights(path)
        assert _state(model.layers[0]) == [768, 0, 5]


class TestReseed:
    def test_starts_unpredictable_streams(self):
        inner = keras.Sequential([keras.Input((3,)), Draw(seed=5)])
        model = keras.Sequential([keras.Input((3,)), Draw(seed=5), Still(), inner])
        reseed(model)
        states = np.array([_state(model.layers[0]), _state(inner.layers[0])])
        assert states[:, 0].tolist() == [0, 0]
        assert len(np.unique(states[:, 1:])) == 4


def _served_draws(folder):
    """What two calls of a loaded model draw, plainly and compiled."""
    images, draws = tf.zeros((2, 3)), []
    for is_compiled in (False, True):
        served = tf.saved_model.load(folder)
        serve = served.serve
        if is_compiled:
            serve = tf.function(served.serve, jit_compile=True)
        draws.append([serve(images).numpy().tolist() for _ in range(2)])
    return draws


_SERVE = f"""
import json, sys
sys.modules["keras_advdef"] = None  # Makes any import of the package fail.
import tensorflow as tf

{inspect.getsource(_served_draws)}
print(json.dumps(_served_draws(sys.argv[1])))
"""


@pytest.mark.slow
class TestServing:
    def test_every_server_draws_its_own_noise(self, tmp_path):
        model = _drawn_model(seed=1)
        model.export(tmp_path / "served", verbose=False)
        assert _state(model.layers[0]) == [768, 0, 1]

        # One server without the package, and this process as another.
        folder = str(tmp_path / "served")
        draws = run_fresh(_SERVE, folder) + _served_draws(folder)
        # Two processes, plain and compiled, two calls, two images, three pixels: 48
        # uniforms out of 2^24, of which two would be equal once in 15000 runs.
        assert np.shape(draws) == (4, 2, 2, 3)
        assert len(np.unique(draws)) == 48
        assert 0 <= np.min(draws) < np.max(draws) < 1


_REPLICAS = """
import json
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
devices = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, devices)

from keras_advdef.core.random_numbers import make_key, uniform
from keras_advdef.core.random_state import RandomLayer, draw_scope

class Draw(RandomLayer):
    def call(self, inputs):
        return inputs + uniform(self.next_key(), [3])

strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    layer = Draw(seed=5)

def scoped():
    with draw_scope(make_key(7)):
        return layer(tf.zeros(3))

def run(function):
    drawn = tf.function(lambda: strategy.run(function))()
    drawn = strategy.experimental_local_results(drawn)
    return [draw.numpy().tolist() for draw in drawn]

draws = [run(scoped), run(lambda: layer(tf.zeros(3)))]
values = strategy.experimental_local_results(layer.random_state.value)
print(json.dumps([draws, [value.numpy().tolist() for value in values]]))
"""


def test_formats_in_which_a_server_could_not_draw_are_refused(tmp_path):
    net, file = small_net(front=[RandomNoise(0.1)]), tmp_path / "net.tflite"
    with pytest.raises(
        ValueError,
        match=r"`RandomNoise` expects `format` to be a format in which layers can draw "
        r"random numbers\. Received: format='litert'\. Export a SavedModel",
    ):
        net.export(file, format="litert", verbose=False)
    assert not file.exists()


@pytest.mark.slow
class TestReplicas:
    def test_draw_differently_and_count_together(self):
        draws, states = run_fresh(_REPLICAS)
        # Inside a scope and outside, two replicas, three numbers.
        assert np.shape(draws) == (2, 2, 3)
        assert len(np.unique(draws)) == 12
        assert states == [[256, 0, 5], [256, 0, 5]]


class TestKeyOfPasses:
    def test_is_the_next_of_the_first_random_layer(self):
        noise = RandomNoise(0.1, seed=5)
        model = keras.Sequential([keras.layers.Flatten(), noise, RandomNoise(0.2)])
        first, second = shared_pass_key(model), shared_pass_key(model)
        assert not np.array_equal(first, second)
        assert noise.random_state.numpy().tolist() == [512, 0, 5]

    def test_is_that_of_the_scope(self):
        for model in (keras.Sequential([RandomNoise(0.1)]), keras.Sequential()):
            with draw_scope(make_key(3)):
                found = shared_pass_key(model)
            with draw_scope(make_key(3)):
                np.testing.assert_array_equal(found, scope_key())

    def test_is_none_where_nothing_draws(self):
        assert shared_pass_key(keras.Sequential([BitDepthReduction(1)])) is None
