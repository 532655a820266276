import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.core.random_numbers import fold_in
from keras_advdef.core.random_stream import next_stream_key
from keras_advdef.training import WassersteinGAN
from keras_advdef.training.wasserstein_gan import critic_losses
from tests.support.nets import weights_of

SHAPE = (3, 2, 1)


def generator_net(latents=4, **options):
    layers = keras.layers
    dense = layers.Dense(6, activation="sigmoid", **options)
    reshape = layers.Reshape(SHAPE, **options)
    return keras.Sequential([keras.Input((latents,)), dense, reshape])


def critic_net(units=1, shape=SHAPE, **options):
    layers = keras.layers
    hidden = layers.Dense(5, activation="leaky_relu", **options)
    return keras.Sequential(
        [keras.Input(shape), layers.Flatten(), hidden, layers.Dense(units, **options)]
    )


def gan_of(*, optimizer=None, options=None, eager=False, **arguments):
    keras.utils.set_random_seed(0)
    options = options or {}
    nets = generator_net(**options), critic_net(**options)
    arguments = {"latent_dim": 4, "critic_steps": 2, "seed": 3, **arguments}
    gan = WassersteinGAN(*nets, **arguments)
    gan.compile(optimizer or keras.optimizers.Adam(0.01), run_eagerly=eager)
    return gan


@pytest.fixture(scope="module")
def images():
    generator = np.random.default_rng(0)
    return generator.uniform(0.4, 0.6, size=(20, *SHAPE)).astype("float32")


def test_a_step_of_the_critic_by_hand(images):
    gan = gan_of(optimizer=keras.optimizers.SGD(0.1), critic_steps=1)
    other = gan_of(critic_steps=1)
    key = fold_in(next_stream_key(other.random_state), 0)
    with tf.GradientTape() as tape:
        losses = critic_losses(
            other.generator,
            other.critic,
            tf.constant(images),
            key,
            weight=10.0,
            training=True,
        )
        loss = losses["critic_loss"]
    weights = other.critic.trainable_weights
    slopes = tape.gradient(loss, [each.value for each in weights])
    expected = [
        w - 0.1 * g if g is not None else w
        for w, g in zip(weights, slopes, strict=True)
    ]
    history = gan.fit(images, batch_size=20, verbose=0, shuffle=False)
    for one, two in zip(gan.critic.trainable_weights, expected, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)
    assert history.history["critic_loss"][0] == pytest.approx(float(loss), rel=1e-4)


def test_each_optimizer_moves_its_own_net(images):
    for moving in ("generator", "critic"):
        gan = gan_of()
        rates = {"generator": (0.1, 0.0), "critic": (0.0, 0.1)}[moving]
        optimizers = (keras.optimizers.SGD(rate) for rate in rates)
        gan.compile(*optimizers, run_eagerly=True)
        nets = {"generator": gan.generator, "critic": gan.critic}
        before = {name: weights_of(net) for name, net in nets.items()}
        gan.fit(images, batch_size=20, verbose=0)
        for name, old in before.items():
            same = all(
                np.array_equal(one, two)
                for one, two in zip(old, weights_of(nets[name]), strict=True)
            )
            assert same == (name != moving)


def test_the_generator_learns_to_be_bright(images):
    gan = gan_of(optimizer=keras.optimizers.Adam(0.01, beta_1=0.5, beta_2=0.9))
    bright = np.tile(images + 0.35, (30, 1, 1, 1))
    before = abs(gan.sample(200, seed=0).mean() - bright.mean())
    gan.fit(bright, batch_size=20, epochs=6, verbose=0)
    after = abs(gan.sample(200, seed=0).mean() - bright.mean())
    assert before > 0.25
    assert after < 0.1


def weights_after(gan, images):
    gan.fit(images, batch_size=10, epochs=2, verbose=0, shuffle=False)
    return np.concatenate([w.ravel() for w in weights_of(gan)])


def test_same_seed_same_fit(images):
    runs = [weights_after(gan_of(seed=seed, eager=True), images) for seed in (3, 3, 4)]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert np.abs(runs[0] - runs[2]).max() > 1e-4


@pytest.mark.parametrize("jit", [False, True])
def test_same_seed_same_fit_where_a_step_is_traced(jit, images):
    gan, runs = gan_of(optimizer=keras.optimizers.SGD(0.1)), []
    gan.compile(keras.optimizers.SGD(0.1), jit_compile=jit)
    for seed in (3, 3, 4):
        # Only the state of a model made with this seed, for the step traced once.
        for one, other in zip(gan.variables, gan_of(seed=seed).variables, strict=True):
            one.assign(other)
        runs.append(weights_after(gan, images))
    np.testing.assert_allclose(runs[0], runs[1], rtol=1e-6, atol=1e-7)
    assert np.abs(runs[0] - runs[2]).max() > 1e-4
    optimizer = keras.optimizers.SGD(0.1)
    eager = weights_after(gan_of(seed=4, optimizer=optimizer, eager=True), images)
    np.testing.assert_allclose(runs[2], eager, rtol=1e-4, atol=1e-5)


def test_saved_and_loaded_it_goes_on_as_if_nothing_was(images, tmp_path):
    gan = gan_of(eager=True)
    options = {"batch_size": 10, "verbose": 0, "shuffle": False}
    gan.fit(images, **options)
    gan.save(tmp_path / "gan.keras")
    loaded = keras.saving.load_model(tmp_path / "gan.keras")
    for name in ("latent_dim", "gradient_penalty", "critic_steps", "seed"):
        assert loaded.get_config()[name] == gan.get_config()[name]
    for each in (gan, loaded):
        each.fit(images, **options)
    for one, two in zip(weights_of(gan), weights_of(loaded), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)
    pair = gan.critic_optimizer, loaded.critic_optimizer
    for one, two in zip(*(each.variables for each in pair), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)


def test_a_stopped_run_is_resumed(images, tmp_path):
    def run(epochs, folder=None):
        gan = gan_of(eager=True)
        backup = [keras.callbacks.BackupAndRestore(folder)] if folder else []
        if folder and epochs == 1:
            # Keras deletes the backup at the end of a run that was not stopped.
            backup.append(_Stop())
        try:
            gan.fit(
                images,
                batch_size=10,
                epochs=2,
                verbose=0,
                shuffle=False,
                callbacks=backup,
            )
        except KeyboardInterrupt:
            assert epochs == 1
        return gan

    whole = run(2)
    run(1, str(tmp_path))
    resumed = run(2, str(tmp_path))
    for one, two in zip(weights_of(whole), weights_of(resumed), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


class _Stop(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt


def test_divergence_keeps_the_last_finite_weights(images):
    gan = gan_of()
    gan.fit(images, batch_size=10, verbose=0)
    good = weights_of(gan)
    gan.compile(keras.optimizers.SGD(1e30))
    with pytest.raises(ValueError, match=r"`loss` .* epoch 1.*keeps the weights"):
        gan.fit(images, batch_size=10, epochs=3, verbose=0)
    for one, two in zip(good, weights_of(gan), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    ("batch_size", "count", "eager"), [(1, 2, True), (7, 20, False), (20, 20, True)]
)
def test_batches_that_do_not_divide(batch_size, count, eager, images):
    gan = gan_of(critic_steps=3, eager=eager)
    history = gan.fit(images[:count], batch_size=batch_size, verbose=0)
    assert np.isfinite(list(history.history.values())).all()


def test_data_sets_labels_and_validation(images):
    pairs = tf.data.Dataset.from_tensor_slices((images, np.zeros(20))).batch(10)
    gan = gan_of()
    logs = gan.fit(pairs, validation_data=pairs, verbose=0, shuffle=False).history
    assert "val_distance" in logs
    first, second = (gan.evaluate(pairs, verbose=0, return_dict=True) for _ in "ab")
    assert first == second


def test_half_precision_scales_both_losses(images):
    gan = gan_of(options={"dtype": "mixed_float16"})
    kind = keras.optimizers.LossScaleOptimizer
    assert isinstance(gan.optimizer, kind)
    assert isinstance(gan.critic_optimizer, kind)
    logs = gan.fit(images, batch_size=10, epochs=2, verbose=0).history
    assert np.isfinite(list(logs.values())).all()


def test_to_the_outside_it_is_the_generator(images, tmp_path):
    gan = gan_of()
    latents = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    expected = gan.generator(latents)
    np.testing.assert_allclose(gan.predict(latents, verbose=0), expected, rtol=1e-6)
    gan.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(tmp_path / "served")
    np.testing.assert_allclose(served.serve(latents), expected, rtol=1e-5)


def test_samples():
    gan = gan_of()
    state = np.asarray(gan.random_state)
    first, again, other = (gan.sample(3, seed=seed) for seed in (0, 0, 1))
    assert first.shape == (3, *SHAPE)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3
    assert np.abs(gan.sample(3) - gan.sample(3)).max() > 1e-3
    np.testing.assert_array_equal(gan.random_state, state)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"latent_dim": 5}, "latent_dim"),
        ({"latent_dim": 0}, "latent_dim"),
        ({"gradient_penalty": -1.0}, "gradient_penalty"),
        ({"critic_steps": 0}, "critic_steps"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_numbers(arguments, name):
    with pytest.raises(ValueError, match=f"`WassersteinGAN` expects `{name}`"):
        gan_of(**arguments)


@pytest.mark.parametrize(
    ("critic", "rule"),
    [
        (lambda: critic_net(2), "ends in one unit"),
        (lambda: critic_net(shape=(2, 2, 1)), "of the generator's images"),
    ],
)
def test_bad_critics(critic, rule):
    with pytest.raises(ValueError, match=f"`WassersteinGAN` expects `critic`.*{rule}"):
        WassersteinGAN(generator_net(), critic(), latent_dim=4)


def test_bad_ways_to_compile_and_fit(images):
    gan = gan_of()
    with pytest.raises(ValueError, match="expects `loss` to be left out"):
        gan.compile("sgd", loss="mse")
    same = keras.optimizers.SGD()
    with pytest.raises(ValueError, match="`critic_optimizer` to be another object"):
        gan.compile(same, same)
    with pytest.raises(ValueError, match="`images`"):
        gan.fit(images[:, :2], verbose=0)
