import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.callbacks import SampleGrid
from keras_advdef.training import WassersteinGAN
from tests.support.nets import small_net


def gan(channels=1):
    shape = (2, 3, channels)
    generator = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(6 * channels, activation="sigmoid"),
            keras.layers.Reshape(shape),
        ]
    )
    critic = keras.Sequential(
        [keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(1)]
    )
    model = WassersteinGAN(generator, critic, latent_dim=4, critic_steps=1, seed=0)
    # Tracing a step would take longer than all else here.
    model.compile(keras.optimizers.Adam(0.1), run_eagerly=True)
    return model


def fit(model, grid, epochs=1):
    images = np.zeros((4, *model.image_shape), "float32")
    model.fit(images, epochs=epochs, callbacks=[grid], verbose=0)


def read(path):
    return tf.io.decode_png(path.read_bytes()).numpy()


@pytest.mark.parametrize("channels", [1, 3])
def test_each_sample_has_its_place(channels, tmp_path):
    model = gan(channels)
    fit(model, SampleGrid(tmp_path, every=1, rows=2, columns=5, seed=7))
    picture = read(tmp_path / "epoch-0001.png")
    assert picture.shape == (2 * 2, 5 * 3, channels)
    samples = np.rint(255 * model.sample(10, seed=7))
    for place, sample in enumerate(samples):
        row, column = divmod(place, 5)
        part = picture[2 * row :, 3 * column :][:2, :3]
        np.testing.assert_array_equal(part, sample)


def test_writes_every_few_epochs_from_the_same_latents(tmp_path):
    model, folder = gan(), tmp_path / "new" / "folder"
    fit(model, SampleGrid(folder, every=2, rows=1, columns=1), epochs=5)
    names = sorted(each.name for each in folder.iterdir())
    assert names == ["epoch-0002.png", "epoch-0004.png"]
    # The generator has moved meanwhile.
    assert np.any(read(folder / names[0]) != read(folder / names[1]))
    model.optimizer.learning_rate = 0.0
    still = tmp_path / "still"
    fit(model, SampleGrid(still, every=1, rows=1, columns=1), epochs=2)
    first, second = (read(path) for path in sorted(still.iterdir()))
    np.testing.assert_array_equal(first, second)


def test_training_goes_on_as_without(tmp_path):
    plain, watched = gan(), gan()
    watched.set_weights(plain.get_weights())
    fit(plain, keras.callbacks.Callback(), epochs=2)
    fit(watched, SampleGrid(tmp_path, every=1), epochs=2)
    for one, other in zip(plain.get_weights(), watched.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["every", "rows", "columns"])
def test_rejects_counts_below_one(name, tmp_path):
    with pytest.raises(ValueError, match=f"`SampleGrid` expects `{name}`.*at least 1"):
        SampleGrid(tmp_path, **{name: 0})


@pytest.mark.parametrize("seed", [None, -1])
def test_rejects_seeds_that_fix_nothing(seed, tmp_path):
    with pytest.raises(ValueError, match="`SampleGrid` expects `seed`"):
        SampleGrid(tmp_path, seed=seed)


def test_rejects_other_models(tmp_path):
    net = small_net()
    net.compile("sgd", "mse")
    with pytest.raises(TypeError, match="`SampleGrid` expects `model` to be a `Wass"):
        net.fit(
            np.zeros((2, 8, 8, 1)),
            np.zeros((2, 3)),
            callbacks=[SampleGrid(tmp_path)],
            verbose=0,
        )


def test_rejects_images_of_two_channels(tmp_path):
    with pytest.raises(ValueError, match=r"1 or 3 channels.*model=\(2, 3, 2\)"):
        fit(gan(2), SampleGrid(tmp_path))


def test_rejects_a_file_in_place_of_the_folder(tmp_path):
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(ValueError, match="`SampleGrid` expects `folder` to be a fold"):
        fit(gan(), SampleGrid(path))


def test_folder_that_vanishes_is_a_sentence(tmp_path):
    grid = SampleGrid(tmp_path / "grids", every=1, rows=1, columns=1)
    vanish = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: shutil.rmtree(grid.folder)
    )
    text = (
        r"`SampleGrid` expects `folder` to be a folder that can be written to.*No such"
    )
    images = np.zeros((4, 2, 3, 1), "float32")
    with pytest.raises(ValueError, match=text):
        gan().fit(images, epochs=1, callbacks=[vanish, grid], verbose=0)
    assert list(tmp_path.iterdir()) == []


def test_folder_below_a_file_is_a_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"can be written to.*Not a directory"):
        fit(gan(), SampleGrid(tmp_path / "file" / "grids"))
