import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from keras_advdef.core.random_numbers import make_key
from keras_advdef.core.random_state import draw_scope
from keras_advdef.layers.image_quilting import ImageQuilting
from tests.support.kernels import missing_kernels

CONTRACT = [{"patch_size": 3, "overlap": 1, "neighbors": 4}]


def _clean(count=6, rows=12, columns=12, channels=1):
    generator = np.random.default_rng(9)
    return generator.uniform(size=(count, rows, columns, channels)).astype("float32")


def _adapted(clean=None, **arguments):
    layer = ImageQuilting(**arguments)
    layer.adapt(_clean() if clean is None else clean)
    return layer


def _model(**arguments):
    return keras.Sequential([keras.Input((8, 8, 1)), ImageQuilting(**arguments)])


def _colours(count):
    """Images of a single colour each, and therefore patches of a single colour."""
    colours = (np.arange(count, dtype="float32") + 1) / (count + 1)
    return np.tile(colours[:, None, None, None], (1, 5, 5, 1))


class TestOutput:
    @pytest.mark.parametrize(
        ("rows", "columns", "channels"),
        [(28, 28, 1), (32, 32, 3), (33, 17, 1), (5, 5, 1), (6, 19, 2)],
    )
    def test_own_patches_give_the_images_back(self, rows, columns, channels):
        images = _clean(2, rows, columns, channels)
        layer = _adapted(images, neighbors=1)
        np.testing.assert_array_equal(layer(images), images)

    @pytest.mark.parametrize(("rows", "columns"), [(28, 28), (32, 32), (33, 17)])
    def test_every_pixel_comes_from_the_bank(self, rows, columns):
        # The images are black; no colour in the bank is.
        layer = _adapted(_colours(20), seed=0)
        outputs = layer(np.zeros((2, rows, columns, 1), "float32")).numpy()
        assert set(outputs.ravel()) == set(_colours(20)[:10].ravel())

    def test_neighbors_are_the_nearest_and_equally_likely(self):
        layer = _adapted(_colours(30), patch_size=5, overlap=0, neighbors=10, seed=0)
        outputs = layer(np.zeros((500, 10, 10, 1), "float32")).numpy()
        drawn = outputs[:, ::5, ::5].ravel()
        nearest = _colours(30)[:10, 0, 0, 0]
        counts = [(drawn == colour).sum() for colour in nearest]
        assert sum(counts) == drawn.size
        assert stats.chisquare(counts).pvalue > 1e-3

    def test_each_patch_and_image_has_its_own_draw(self, images):
        layer = _adapted(seed=0)
        outputs = layer(np.repeat(images[:1], 40, axis=0)).numpy()
        assert len({each.tobytes() for each in outputs}) == 40

    def test_seeds(self, images):
        one, again, other = (_adapted(seed=seed) for seed in (1, 1, 2))
        first = one(images)
        np.testing.assert_array_equal(first, again(images))
        other.bank.assign(one.bank)
        assert not np.array_equal(first, other(images))
        assert not np.array_equal(first, one(images))

    def test_one_neighbor_is_deterministic(self, images):
        layer = _adapted(neighbors=1)
        np.testing.assert_array_equal(layer(images), layer(images))

    # In the gate the contract compiles it.
    @pytest.mark.nightly
    def test_agrees_in_every_mode(self):
        # 8-bit levels, for which many rows have equal distances.
        clean = np.round(_clean() * 15) / 15
        layer = _adapted(clean)
        images = tf.constant(np.round(_clean(3, 13, 9) * 15) / 15, tf.float32)

        def call(x, key):
            with draw_scope(key):
                return layer(x)

        eager = call(images, make_key(5))
        assert float(tf.reduce_max(tf.abs(eager - images))) > 0.05
        for jit in (False, True):
            traced = tf.function(
                call,
                jit_compile=jit,
                input_signature=[
                    tf.TensorSpec([None, 13, 9, 1]),
                    tf.TensorSpec([2], tf.int64),
                ],
            )
            found = traced(images, make_key(5))
            np.testing.assert_allclose(found, eager, atol=2e-6)
            assert traced(images[:1], make_key(5)).shape == (1, 13, 9, 1)

    def test_runs_wholly_on_a_gpu(self, images):
        assert missing_kernels(_adapted(), tf.constant(images)) == {}

    @settings(max_examples=8, deadline=None)
    @given(data=st.data())
    def test_keeps_shape_dtype_and_range(self, data):
        side = data.draw(st.integers(1, 6))
        overlap = data.draw(st.integers(0, side - 1))
        shape = [data.draw(st.integers(1, 3))] + [
            data.draw(st.integers(side, 14)) for _ in range(2)
        ]
        channels = data.draw(st.integers(1, 3))
        dtype = data.draw(st.sampled_from(["float16", "float32"]))
        low, high = data.draw(st.sampled_from([(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)]))
        layer = ImageQuilting(
            patch_size=side, overlap=overlap, neighbors=3, value_range=(low, high)
        )
        layer.adapt(_clean(2, 8, 8, channels) * (high - low) + low)
        images = tf.cast(
            np.random.default_rng(0).uniform(low, high, (*shape, channels)), dtype
        )
        outputs = layer(images)
        assert outputs.shape == images.shape
        assert outputs.dtype == dtype
        assert float(tf.reduce_min(outputs)) >= low
        assert float(tf.reduce_max(outputs)) <= high


class TestAdapt:
    def test_bank_holds_all_patches_in_the_unit_range(self):
        clean = np.round(_clean(2, 7, 6) * 255)
        layer = ImageQuilting(patch_size=6, neighbors=4, value_range=(0, 255))
        layer.adapt(clean.astype("uint8"))
        expected = np.stack([clean[0, :6], clean[0, 1:], clean[1, :6], clean[1, 1:]])
        assert not layer.bank.trainable
        np.testing.assert_allclose(layer.bank, expected.reshape(4, 36) / 255, rtol=1e-6)

    @pytest.mark.parametrize("most", [37, 1_000_000])
    def test_datasets_give_the_bank_of_the_array(self, most):
        clean = _clean(70)
        banks = []
        data = tf.data.Dataset.from_tensor_slices(clean)
        pairs = tf.data.Dataset.from_tensor_slices((clean, np.arange(70)))
        unknown = tf.data.Dataset.from_generator(
            lambda: iter(clean), output_signature=tf.TensorSpec([None, None, 1])
        )
        for source in (clean, data, data.batch(13), pairs, pairs.batch(64), unknown):
            layer = ImageQuilting(seed=3)
            layer.adapt(source, max_patches=most)
            banks.append(layer.bank.numpy())
        assert len(banks[0]) == min(most, 70 * 64)
        for bank in banks[1:]:
            np.testing.assert_array_equal(bank, banks[0])

    def test_seed_fixes_the_sample(self):
        def bank(seed):
            layer = ImageQuilting(seed=seed)
            layer.adapt(_clean(), max_patches=30)
            return layer.bank.numpy()

        np.testing.assert_array_equal(bank(1), bank(1))
        assert not np.array_equal(bank(1), bank(2))
        keras.utils.set_random_seed(0)
        first = bank(None)
        keras.utils.set_random_seed(0)
        np.testing.assert_array_equal(bank(None), first)

    def test_model_may_be_made_before(self, images):
        model = _model(neighbors=1)
        model.layers[0].adapt(images)
        np.testing.assert_array_equal(model(images), images)
        layer = _adapted(images, neighbors=1)
        inputs = keras.Input((8, 8, 1))
        model = keras.Model(inputs, layer(inputs))
        np.testing.assert_array_equal(model.predict(images, verbose=0), images)

    @pytest.mark.parametrize("jit", [False, True])
    def test_compiled_functions_see_the_new_bank(self, jit, images):
        model = _model(neighbors=1)
        model.compile(jit_compile=jit)
        model.layers[0].adapt(images)
        np.testing.assert_array_equal(model.predict(images, verbose=0), images)
        for colours in (_colours(1), _colours(4)[2:3].repeat(7, axis=0)):
            model.layers[0].adapt(colours)
            found = model.predict(images, verbose=0)
            np.testing.assert_array_equal(found, np.full_like(images, colours.max()))


class TestSaving:
    def test_keras_file_and_weights_need_no_adapt(self, images, tmp_path):
        model = _model(seed=4)
        model.layers[0].adapt(_clean())
        model.save(tmp_path / "model.keras")
        model.save_weights(tmp_path / "model.weights.h5")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        copy = _model(seed=8)
        copy.load_weights(tmp_path / "model.weights.h5")
        expected = model(images)
        np.testing.assert_array_equal(loaded(images), expected)
        np.testing.assert_array_equal(copy(images), expected)
        config = model.layers[0].get_config()
        assert config["patch_size"] == 5
        assert config["overlap"] == 2
        assert config["neighbors"] == 10
        assert "bank" not in config

    def test_empty_layer_is_saved_and_adapted_later(self, images, tmp_path):
        _model().save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        loaded.layers[0].adapt(images)
        assert loaded(images).shape == images.shape

    def test_saved_model(self, images, tmp_path):
        model = _model(neighbors=1)
        model.layers[0].adapt(_clean())
        model.export(tmp_path / "served", verbose=False)
        loaded = tf.saved_model.load(tmp_path / "served")
        for batch in (images, images[:1]):
            found = loaded.serve(batch)
            np.testing.assert_allclose(found, model(batch), atol=2e-6)


class TestRejects:
    @pytest.mark.parametrize(
        ("arguments", "name"),
        [
            ({"patch_size": 0}, "patch_size"),
            ({"patch_size": 3, "overlap": 3}, "overlap"),
            ({"overlap": -1}, "overlap"),
            ({"neighbors": 0}, "neighbors"),
        ],
    )
    def test_arguments(self, arguments, name):
        with pytest.raises(ValueError, match=f"`ImageQuilting` expects `{name}`"):
            ImageQuilting(**arguments)

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (np.zeros((8, 8, 1)), "`data` to be a non-empty array of shape"),
            (np.zeros((0, 8, 8, 1)), "`data` to be a non-empty array of shape"),
            (
                tf.data.Dataset.from_tensor_slices(np.zeros((4, 8, 8))),
                "`data` to be a dataset of images of shape",
            ),
            (np.zeros((9, 4, 8, 1)), "images of at least `patch_size`=5 pixels"),
            (np.zeros((2, 6, 6, 1)), "of at least 10 patches, the `neighbors`"),
            (np.full((9, 8, 8, 1), 2.0), "in the value range"),
            (np.full((9, 8, 8, 1), np.nan), "finite"),
        ],
    )
    def test_data(self, data, message):
        with pytest.raises(
            ValueError, match=r"`ImageQuilting\.adapt` expects"
        ) as caught:
            ImageQuilting().adapt(data)
        assert message in str(caught.value)

    def test_data_of_changing_channels(self):
        data = tf.data.Dataset.from_generator(
            lambda: iter([np.zeros((8, 8, 1)), np.zeros((8, 8, 3))]),
            output_signature=tf.TensorSpec([8, 8, None]),
        )
        with pytest.raises(ValueError, match="images that all have 1 channels"):
            ImageQuilting().adapt(data)

    def test_empty_dataset(self):
        data = tf.data.Dataset.from_tensor_slices(np.zeros((4, 8, 8, 1))).take(0)
        with pytest.raises(ValueError, match=r"`ImageQuilting\.adapt` expects `data`"):
            ImageQuilting().adapt(data)

    def test_too_many_patches(self):
        with pytest.raises(ValueError, match="expects `max_patches`"):
            ImageQuilting().adapt(_clean(), max_patches=2**24 + 1)

    def test_call_before_adapt(self, images):
        with pytest.raises(ValueError, match="Call `adapt` with clean training images"):
            ImageQuilting()(images)
        with pytest.raises(ValueError, match="Call `adapt` with clean training images"):
            _model().predict(images, verbose=0)

    def test_images_smaller_than_a_patch(self):
        with pytest.raises(ValueError, match="at least `patch_size`=5 pixels a side"):
            _adapted()(np.zeros((1, 4, 9, 1)))

    def test_other_channels_than_the_bank(self):
        with pytest.raises(
            ValueError, match="of 1 channels, like the images given to `adapt`"
        ):
            _adapted()(np.zeros((1, 9, 9, 3)))
