"""What every training model does where images, losses or weights are not finite."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import FGSM
from keras_advdef.training import (
    AdversarialTrainingModel,
    DistillationTrainer,
    WassersteinGAN,
)
from tests.support.nets import small_net, sparse_loss

NAN, INF = float("nan"), float("inf")
BAD = 2
layers = keras.layers


def net_of(**options):
    """A net with all that a step writes: weights, statistics and a random state."""
    return keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            layers.GaussianNoise(0.01, seed=3),
            layers.Conv2D(2, 3, **options),
            layers.BatchNormalization(**options),
            layers.MaxPooling2D(),
            layers.ReLU(),
            layers.Flatten(),
            layers.Dense(3, dtype="float32"),
        ]
    )


@tf.custom_gradient
def without_slope(logits, rows):
    """The logits, whose gradient is NaN in some rows."""

    def backward(slope):
        return slope + tf.where(rows, NAN, 0.0)[:, None], None

    return logits, backward


def spiteful_loss(labels, logits):
    """Cross-entropy; NaN of label 2, and of label 1 with a gradient that is none."""
    labels = tf.reshape(labels, [-1])
    logits = without_slope(logits, labels == 1.0)
    classes = tf.cast(labels, tf.int32)
    values = tf.nn.sparse_softmax_cross_entropy_with_logits(classes, logits)
    return values + tf.where(labels == 2.0, NAN, 0.0)


def batches(kind=None, *, count=5):
    """Five batches of four images, the third of them bad in some way."""
    generator = np.random.default_rng(1)
    x = generator.uniform(0.1, 0.9, (count, 4, 4, 4, 1)).astype("float32")
    y, weights = np.zeros((count, 4), "float32"), np.ones((count, 4), "float32")
    if kind in ("nan_pixel", "inf_pixel"):
        x[BAD, 1, 2, 2] = NAN if kind == "nan_pixel" else INF
    y[BAD, 3] = {"label": NAN, "loss": 2.0, "gradients": 1.0}.get(kind, 0.0)
    weights[BAD, 0] = NAN if kind == "weight" else 1.0
    return x, y, weights


def data_of(arrays, places=None):
    places = range(len(arrays[0])) if places is None else places
    chosen = [np.concatenate([part[i] for i in places]) for part in arrays]
    return tf.data.Dataset.from_tensor_slices(tuple(chosen)).batch(4)


class Trained:
    """A model whose whole state can be set back and compared, bit for bit."""

    def __init__(self, model, *optimizers):
        self.model = model
        self.optimizers = optimizers or [model.optimizer]
        self.model.fit(data_of(batches(), [0]), shuffle=False, verbose=0)
        self.start = self.state()

    def variables(self):
        parts = (self.model, *self.optimizers)
        return [each for part in parts for each in part.variables]

    def state(self):
        return [each.numpy() for each in self.variables()]

    def after(self, places, arrays=None, **options):
        """The state after some batches, from the start."""
        for variable, value in zip(self.variables(), self.start, strict=True):
            variable.assign(value)
        data = data_of(batches() if arrays is None else arrays, places)
        self.model.fit(data, shuffle=False, verbose=0, **options)
        return self.state()


def model_of(model=None, optimizer="adam", loss=spiteful_loss, **options):
    model = model or AdversarialTrainingModel(net_of(), seed=0)
    model.compile(optimizer, loss, **options)
    return model


def same(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def trained():
    keras.utils.set_random_seed(5)
    attack = FGSM(0.05)
    return Trained(model_of(AdversarialTrainingModel(net_of(), attack, seed=0)))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("nan_pixel", "`images` .* in batch 3 of epoch 1.*: images=nan.*leave such"),
        ("inf_pixel", "`images` .*: images=inf"),
        ("label", "`labels` .*: labels=nan"),
        ("weight", "`sample_weight` .*: sample_weight=nan"),
        ("loss", "`loss` .*: loss=nan.*lower learning rate"),
        ("gradients", "`gradients` .*: gradients="),
    ],
)
def test_one_bad_example_is_told_and_changes_nothing(kind, said, trained):
    good, rest = trained.after([0, 1]), trained.after([0, 1, 3, 4])
    with pytest.raises(ValueError, match=f"`AdversarialTrainingModel` expects {said}"):
        trained.after(None, batches(kind))
    same(trained.state(), good)
    # Without the cause, training goes on as if it had never been.
    trained.model.fit(data_of(batches(), [3, 4]), shuffle=False, verbose=0)
    same(trained.state(), rest)


def test_weights_that_overflow_come_back(trained):
    def step(batch, logs=None):
        if batch == BAD:
            trained.model.optimizer.learning_rate = INF

    good = trained.after([0, 1])
    steep = keras.callbacks.LambdaCallback(on_train_batch_begin=step)
    with pytest.raises(ValueError, match=r"`weights` .* batch 3 of epoch 1"):
        trained.after(None, callbacks=[steep])
    rate = trained.model.optimizer.variables.index(
        trained.model.optimizer._learning_rate
    )
    place = len(trained.model.variables) + rate
    good[place] = np.float32(INF)
    same(trained.state(), good)
    trained.model.optimizer.learning_rate = 1e-3


def test_no_callback_sees_the_bad_batch(trained, tmp_path):
    seen, epochs = [], []
    callbacks = [
        keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: seen.append(logs["loss"]),
            on_epoch_end=lambda epoch, logs: epochs.append(epoch),
        ),
        keras.callbacks.TerminateOnNaN(),
        keras.callbacks.EarlyStopping("loss", restore_best_weights=True),
        keras.callbacks.ModelCheckpoint(
            tmp_path / "last.weights.h5", save_weights_only=True, save_freq=1
        ),
        keras.callbacks.BackupAndRestore(tmp_path / "backup", save_freq=1),
    ]
    good = trained.after([0, 1])
    with pytest.raises(ValueError, match="`images`"):
        trained.after(None, batches("nan_pixel"), callbacks=callbacks)
    assert len(seen) == BAD
    assert np.isfinite(seen).all()
    assert epochs == []
    same(trained.state(), good)
    kept = trained.model.get_weights()
    trained.after([0])
    trained.model.load_weights(tmp_path / "last.weights.h5")
    same(trained.model.get_weights(), kept)


def test_epochs_are_counted_from_one(trained):
    class Poison(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                self.model.classifier.layers[-1].bias.assign([NAN, 0.0, 0.0])

    message = "batch 1 of epoch 3.*Load finite weights into the model"
    with pytest.raises(ValueError, match=message):
        trained.after(None, epochs=4, callbacks=[Poison()])


def test_a_nan_in_validation_is_a_number_in_the_log(trained):
    x, y, weights = batches("loss")
    held_out = data_of((x, y, weights))
    start = trained.after([0, 1])
    same(trained.after([0, 1], validation_data=held_out), start)
    assert np.isnan(trained.model.history.history["val_loss"][0])


def test_a_batch_alone(trained):
    good = trained.after([0, 1])
    x, y, weights = (part[BAD] for part in batches("loss"))
    with pytest.raises(ValueError, match=r"`loss` .* in its last batch"):
        trained.model.train_on_batch(x, y, weights)
    same(trained.state(), good)
    x, y, weights = (part[BAD] for part in batches())
    trained.model.train_on_batch(x, y, weights)
    same(trained.state(), trained.after([0, 1, BAD]))


def test_callbacks_come_in_every_way_that_keras_takes(trained):
    data, seen = data_of(batches()), []
    callback = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(epoch)
    )
    listed = keras.callbacks.CallbackList([callback], model=trained.model, epochs=1)
    for callbacks in (callback, [callback], [[callback]], listed):
        trained.model.fit(data, None, None, 1, 0, callbacks, shuffle=False)
    assert seen == [0, 0, 0, 0]


@pytest.mark.parametrize(
    "options",
    [
        {"run_eagerly": True},
        {"jit_compile": True},
        {"steps_per_execution": 4},
        {"optimizer": keras.optimizers.SGD(0.1, momentum=0.9)},
        {
            "optimizer": keras.optimizers.AdamW(
                gradient_accumulation_steps=2, use_ema=True
            )
        },
    ],
    ids=["eager", "jit", "several_steps", "momentum", "accumulation_and_ema"],
)
def test_whatever_the_step_is_compiled_to(options):
    trained = Trained(model_of(**options))
    for kind, name in (("nan_pixel", "images"), ("gradients", "gradients")):
        good = trained.after([0, 1])
        with pytest.raises(ValueError, match=f"`{name}` .* batch 3 of epoch 1"):
            trained.after(None, batches(kind))
        same(trained.state(), good)


def test_half_precision_skips_what_its_scale_makes_infinite():
    half = {"dtype": "mixed_float16"}
    model = model_of(AdversarialTrainingModel(net_of(**half), seed=0, **half))
    trained = Trained(model)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    model.optimizer.dynamic_scale.assign(2.0**120)
    model.fit(data_of(batches()), shuffle=False, verbose=0)
    assert model.optimizer.dynamic_scale.numpy() == 2.0**115
    good = trained.after([0, 1])
    with pytest.raises(ValueError, match="`images`"):
        trained.after(None, batches("nan_pixel"))
    same(trained.state(), good)


def test_a_loss_over_bad_weights_is_not_logged():
    # Of NaN the largest is the least number of all, the ReLU of that is 0, and of equal
    # logits the loss is log 3, whatever became of the weights.
    net = net_of()
    plain = keras.models.clone_model(net)
    plain.compile("sgd", sparse_loss())
    x, y, _ = (part[BAD] for part in batches("nan_pixel"))
    x[:] = NAN
    assert plain.train_on_batch(x, y) == pytest.approx(np.log(3), rel=1e-5)
    assert not all(np.isfinite(each).all() for each in plain.get_weights())
    model = model_of(AdversarialTrainingModel(net, seed=0), "sgd", sparse_loss())
    before = net.get_weights()
    with pytest.raises(ValueError, match="`images`"):
        model.train_on_batch(x, y)
    same(net.get_weights(), before)


class TestDistillationTrainer:
    def test_student(self):
        trained = Trained(model_of(DistillationTrainer(net_of()), loss=None))
        good = trained.after([0, 1])
        with pytest.raises(ValueError, match="`DistillationTrainer` expects `images`"):
            trained.after(None, batches("nan_pixel"))
        same(trained.state(), good)

    def test_teacher(self):
        teacher = net_of()
        trainer = model_of(DistillationTrainer(teacher), loss=None)
        with pytest.raises(ValueError, match=r"`images` .* batch 3 of epoch 1"):
            trainer.fit_teacher(data_of(batches("nan_pixel")), shuffle=False, verbose=0)
        assert all(np.isfinite(each).all() for each in teacher.get_weights())

    def test_a_teacher_that_is_not_finite(self):
        trainer = model_of(DistillationTrainer(net_of()), loss=None)
        trainer.teacher.layers[-1].bias.assign([NAN, 0.0, 0.0])
        before = trainer.student.get_weights()
        with pytest.raises(ValueError, match=r"`loss` .* batch 1 of epoch 1"):
            trainer.fit(data_of(batches()), shuffle=False, verbose=0)
        same(trainer.student.get_weights(), before)


@pytest.fixture(scope="module")
def trained_gan():
    keras.utils.set_random_seed(0)
    generator = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(16),
            layers.BatchNormalization(),
            layers.Activation("sigmoid"),
            layers.Reshape((4, 4, 1)),
        ]
    )
    critic = keras.Sequential(
        [keras.Input((4, 4, 1)), layers.Flatten(), layers.Dense(1)]
    )
    gan = WassersteinGAN(generator, critic, latent_dim=3, critic_steps=2, seed=0)
    gan.compile()
    return Trained(gan, gan.optimizer, gan.critic_optimizer)


class TestWassersteinGAN:
    def test_bad_images(self, trained_gan):
        good, rest = trained_gan.after([0, 1]), trained_gan.after([0, 1, 3])
        with pytest.raises(ValueError, match="`WassersteinGAN` expects `images`"):
            trained_gan.after(None, batches("nan_pixel"))
        same(trained_gan.state(), good)
        trained_gan.model.fit(data_of(batches(), [3]), shuffle=False, verbose=0)
        same(trained_gan.state(), rest)

    def test_overflow(self, trained_gan):
        good = trained_gan.after([0, 1])
        trained_gan.model.critic_optimizer.learning_rate = 1e38
        with pytest.raises(ValueError, match=r"(loss|weights)` .* batch 1 of epoch 1"):
            trained_gan.model.fit(data_of(batches()), shuffle=False, verbose=0)
        trained_gan.model.critic_optimizer.learning_rate = 1e-4
        same(trained_gan.state(), good)


def test_files_of_a_guarded_model_are_those_of_any(tmp_path):
    model = model_of(AdversarialTrainingModel(small_net(), seed=0), loss=sparse_loss())
    x = np.zeros((4, 8, 8, 1), "float32")
    model.fit(x, np.zeros(4), verbose=0)
    model.save(tmp_path / "model.keras")
    copy = keras.models.load_model(tmp_path / "model.keras")
    same(copy.get_weights(), model.get_weights())
    copy.fit(x, np.zeros(4), verbose=0)
