import resource

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core.cards import cards_in
from keras_advdef.core.export_model import export_model
from keras_advdef.layers import BitDepthReduction, RandomNoise
from tests.support.nets import small_net


def served(model, folder, **arguments):
    export_model(model, folder, verbose=False, **arguments)
    return tf.saved_model.load(str(folder))


class TestExportModel:
    def test_augmentation_stands_still(self, images, tmp_path):
        net = small_net(front=[keras.layers.RandomTranslation(0.3, 0.3)])
        loaded = served(net, tmp_path)
        expected = net.predict(images, verbose=0)
        for _ in range(2):
            np.testing.assert_allclose(loaded.serve(images), expected, atol=1e-6)

    def test_defences_go_on_drawing(self, images, tmp_path):
        loaded = served(small_net(front=[RandomNoise(0.1)]), tmp_path)
        assert not np.array_equal(loaded.serve(images), loaded.serve(images))

    @pytest.mark.parametrize(
        ("inputs", "given"),
        [
            # A list of one input is served as a single tensor.
            (lambda image: [image], lambda image: image),
            (lambda image: {"image": image}, lambda image: {"image": image}),
        ],
    )
    def test_structures(self, inputs, given, images, tmp_path):
        image = keras.Input((8, 8, 1), name="image")
        net = keras.Model(inputs(image), [keras.layers.Flatten()(image)])
        loaded = served(net, tmp_path)
        (found,) = tf.nest.flatten(loaded.serve(given(tf.constant(images))))
        np.testing.assert_array_equal(found, images.reshape(6, 64))
        assert list(loaded.signatures["serve"].structured_input_signature[1]) == [
            "image"
        ]

    @pytest.mark.parametrize("dtype", ["uint8", "float64"])
    def test_inputs_are_taken_as_the_model_takes_them(self, dtype, tmp_path):
        inputs = keras.Input((2,), dtype=dtype)
        net = keras.Sequential([inputs, keras.layers.Rescaling(0.5, dtype="float64")])
        loaded = served(net, tmp_path)
        (spec,) = loaded.signatures["serve"].structured_input_signature[1].values()
        assert spec.dtype == dtype
        x = np.array([[201, 255]], dtype)
        np.testing.assert_array_equal(loaded.serve(x), x * 0.5)

    def test_a_subclass_that_was_called(self, images, tmp_path):
        class Plain(keras.Model):
            def call(self, inputs):
                return 2.0 * inputs

        model = Plain()
        model(images)
        np.testing.assert_array_equal(served(model, tmp_path).serve(images), 2 * images)

    def test_input_signature_of_the_user(self, images, tmp_path):
        signature = [keras.InputSpec(shape=(2, 8, 8, 1), dtype="float32")]
        loaded = served(small_net(), tmp_path, input_signature=signature)
        assert loaded.serve(images[:2]).shape == (2, 3)
        with pytest.raises(TypeError, match="Binding inputs"):
            loaded.serve(images)

    def test_cards_of_layers_and_of_what_is_named(self, tmp_path):
        served(small_net(front=[BitDepthReduction(3)]), tmp_path / "inside")
        assert list(cards_in(tmp_path / "inside")) == ["BitDepthReduction"]
        served(small_net(), tmp_path / "named", defended=[RandomNoise(0.1)])
        assert list(cards_in(tmp_path / "named")) == ["RandomNoise"]

    def test_leaves_the_model_as_it_was(self, net, images, tmp_path):
        before = [variable.path for variable in net.variables]
        served(net, tmp_path)
        assert [variable.path for variable in net.variables] == before
        assert net(images).shape == (6, 3)


@pytest.mark.parametrize("earlier", [False, True])
def test_full_disk_is_a_sentence_and_leaves_what_was_there(earlier, tmp_path):
    path = tmp_path / "served"
    if earlier:
        export_model(small_net(), path, verbose=False)
    before = {each: each.is_file() and each.read_bytes() for each in path.rglob("*")}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Like a full disk, with another message.
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        text = "`export_model` expects `filepath` to be a place.*File too large"
        with pytest.raises(ValueError, match=text):
            export_model(small_net(), path, verbose=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    after = {each: each.is_file() and each.read_bytes() for each in path.rglob("*")}
    assert after == before
    assert path.exists() == earlier
