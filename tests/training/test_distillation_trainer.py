import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf

from keras_advdef.attacks import APGD, PGD
from keras_advdef.layers import BitDepthReduction
from keras_advdef.training import DistillationTrainer
from tests.support.nets import linear_net, small_net


def trainer_of(teacher, **arguments):
    """A trainer without traces; `test_a_softmax_head_is_undone` compares both ways."""
    trainer = DistillationTrainer(teacher, **arguments)
    rate = keras.optimizers.Adam(0.01)
    trainer.compile(rate, metrics=["accuracy"], run_eagerly=True)
    return trainer


@pytest.fixture(scope="module")
def epoch(digits):
    """Images and labels, four times each: few epochs are many steps."""
    return tuple(np.concatenate([each] * 4) for each in digits[:2])


class TestSoftLabels:
    @pytest.mark.parametrize(
        ("temperature", "expected", "entropy"),
        [
            (2.0, [0.455054, 0.276004, 0.167405, 0.101536], 1.24505043),
            (20.0, [0.269050, 0.255929, 0.243447, 0.231574], 1.38473352),
            (100.0, [0.253762, 0.251237, 0.248738, 0.246263], 1.38623186),
        ],
    )
    def test_are_those_by_hand(self, temperature, expected, entropy):
        teacher = linear_net(np.zeros((4, 2)), [2.0, 1.0, 0.0, -1.0])
        trainer = DistillationTrainer(teacher, temperature=temperature)
        found = trainer.soft_labels(np.zeros((1, 2, 1, 1), "float32"))[0]
        np.testing.assert_allclose(found, expected, atol=1e-6)
        assert scipy.stats.entropy(found) == pytest.approx(entropy, abs=1e-5)

    def test_come_from_the_teacher_at_rest(self, digits):
        teacher = small_net(front=[keras.layers.Dropout(0.5)])
        trainer = DistillationTrainer(teacher, temperature=3.0)
        x = digits.x_train[:4]
        one, other = trainer.soft_labels(x), trainer.soft_labels(x)
        np.testing.assert_array_equal(one, other)
        expected = scipy.special.softmax(teacher.predict(x, verbose=0) / 3.0, axis=1)
        np.testing.assert_allclose(one, expected, atol=1e-6)


class TestFit:
    def test_one_step_is_the_one_by_hand(self, digits):
        x, y = digits.x_train[:16], digits.y_train[:16]
        teacher, temperature = small_net(), 5.0
        trainer = DistillationTrainer(teacher, temperature=temperature)
        trainer.compile(keras.optimizers.SGD(0.5))
        student = trainer.student
        start = student.get_weights()
        with tf.GradientTape() as tape:
            logits = student(x) / temperature
            expected = tf.reduce_mean(
                tf.nn.softmax_cross_entropy_with_logits(trainer.soft_labels(x), logits)
            )
        gradients = tape.gradient(expected, student.trainable_weights)
        history = trainer.fit(x, y, batch_size=16, verbose=0).history
        assert history["loss"][0] == pytest.approx(float(expected), rel=1e-5)
        ends = student.get_weights()
        for end, begin, gradient in zip(ends, start, gradients, strict=True):
            np.testing.assert_allclose(end, begin - 0.5 * gradient, atol=1e-6)

    def test_trains_the_student_alone_and_labels_do_not_matter(self, digits):
        x, y = digits.x_train[:64], digits.y_train[:64]
        students = []
        for labels in (y, (y + 1) % 3):
            keras.utils.set_random_seed(2)
            trainer = trainer_of(small_net())
            before = trainer.teacher.get_weights()
            trainer.fit(x, labels, verbose=0, shuffle=False)
            for one, other in zip(before, trainer.teacher.get_weights(), strict=True):
                np.testing.assert_array_equal(one, other)
            students.append(trainer.student.get_weights())
        for one, other in zip(*students, strict=True):
            np.testing.assert_array_equal(one, other)

    @pytest.mark.parametrize(
        ("one_hot", "jit"),
        [
            (True, False),
            pytest.param(False, False, marks=pytest.mark.nightly),
            pytest.param(True, True, marks=pytest.mark.nightly),
        ],
    )
    def test_teacher_and_student_learn(self, one_hot, jit, epoch):
        x, y = epoch
        labels = np.eye(3, dtype="float32")[y] if one_hot else y
        trainer = DistillationTrainer(small_net(), temperature=5.0)
        trainer.compile(
            keras.optimizers.Adam(0.05), metrics=["accuracy"], jit_compile=jit
        )
        options = {"batch_size": 100, "epochs": 5, "verbose": 0}
        taught = trainer.fit_teacher(x, labels, **options).history
        assert taught["accuracy"][-1] > 0.9
        held_out = x[:100], labels[:100]
        history = trainer.fit(x, labels, validation_data=held_out, **options).history
        assert history["val_accuracy"][-1] > 0.9
        assert history["val_loss"][-1] < history["val_loss"][0]
        logits = trainer.predict(x[:8], verbose=0)
        np.testing.assert_allclose(logits, trainer.student(x[:8]), atol=1e-5)

    @pytest.mark.nightly
    def test_logits_grow_with_the_temperature(self, epoch):
        (x, y), sizes = epoch, []
        for temperature in (1.0, 20.0):
            keras.utils.set_random_seed(0)
            trainer = DistillationTrainer(small_net(), temperature=temperature)
            trainer.compile(keras.optimizers.Adam(0.02))
            for fit in (trainer.fit_teacher, trainer.fit):
                fit(x, y, batch_size=50, epochs=4, verbose=0)
            sizes.append(np.abs(trainer.predict(x, verbose=0)).mean())
        assert sizes[1] > 4 * sizes[0]

    def test_sample_weights_count(self, digits):
        x, y = digits.x_train[:8].copy(), digits.y_train[:8]
        results = []
        for first in (x[0], 1 - x[0]):
            keras.utils.set_random_seed(0)
            trainer = trainer_of(small_net())
            changed = np.concatenate([first[None], x[1:]])
            weights = np.array([0.0] + [1.0] * 7)
            trainer.fit(changed, y, sample_weight=weights, verbose=0, shuffle=False)
            results.append(trainer.student.get_weights())
        for one, other in zip(*results, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)


class TestSaving:
    def test_training_goes_on_after_a_file(self, digits, tmp_path):
        x, y = digits.x_train[:32], digits.y_train[:32]
        trainer = trainer_of(small_net(), temperature=7.0)
        trainer.fit(x, y, verbose=0)
        trainer.save(tmp_path / "trainer.keras")
        copy = keras.models.load_model(tmp_path / "trainer.keras")
        assert copy.temperature == 7.0
        np.testing.assert_allclose(
            copy.soft_labels(x), trainer.soft_labels(x), atol=1e-6
        )
        for each in (trainer, copy):
            each.fit(x, y, verbose=0, shuffle=False)
        np.testing.assert_allclose(copy(x), trainer(x), atol=1e-5)

    def test_export_is_the_student(self, digits, tmp_path):
        trainer = DistillationTrainer(small_net(front=[BitDepthReduction(5)]))
        trainer.export(tmp_path / "served", verbose=False)
        served = tf.saved_model.load(str(tmp_path / "served"))
        x = tf.constant(digits.x_test[:3])
        np.testing.assert_allclose(served.serve(x), trainer.student(x), atol=1e-6)


class TestStudent:
    def test_is_a_fresh_copy_of_the_teacher(self):
        teacher = small_net()
        student = DistillationTrainer(teacher).student
        assert student.count_params() == teacher.count_params()
        kernels = student.get_weights()[0], teacher.get_weights()[0]
        assert not np.allclose(*kernels)

    def test_may_be_given(self):
        student = small_net()
        assert DistillationTrainer(small_net(), student).student is student


@pytest.mark.parametrize(
    "options",
    [{}, {"run_eagerly": True}, {"jit_compile": True}],
    ids=["graph", "eager", "xla"],
)
def test_a_softmax_head_is_undone(options, digits):
    x, y = digits.x_train[:32], digits.y_train[:32]
    weights = small_net().get_weights()
    histories, students = [], []
    for head in (None, "softmax"):
        teacher, student = small_net(head=head), small_net(head=head)
        teacher.set_weights(weights)
        student.set_weights([0.5 * each for each in weights])
        trainer = DistillationTrainer(teacher, student, temperature=5.0)
        # Without a head it is the same in every mode.
        trainer.compile(
            keras.optimizers.SGD(0.1), **(options if head else {"run_eagerly": True})
        )
        fit = {"shuffle": False, "verbose": 0}
        ran = trainer.fit_teacher(x, y, **fit).history
        ran |= trainer.fit(x, y, validation_data=(x, y), **fit).history
        histories.append([ran["loss"][0], ran["val_loss"][0]])
        students.append(student.get_weights())
    np.testing.assert_allclose(*histories, rtol=1e-5)
    for one, other in zip(*students, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


class SaysNoShape(keras.Model):
    def __init__(self):
        super().__init__()
        self.net = small_net()

    def build(self, input_shape):
        self.built = True

    def get_build_config(self):
        return None

    def call(self, images, training=None):
        return self.net(images, training=training)


def test_a_student_need_not_know_its_image_shape(digits):
    x, y = digits.x_train[:8], digits.y_train[:8]
    student = SaysNoShape()
    student(x)
    trainer = DistillationTrainer(small_net(), student)
    trainer.compile("sgd")
    losses = trainer.fit(x, y, verbose=0).history["loss"]
    assert np.isfinite(losses).all()


def test_bad_input():
    net = small_net()
    with pytest.raises(ValueError, match="`temperature` to be a finite number above 0"):
        DistillationTrainer(net, temperature=0.0)
    with pytest.raises(ValueError, match="teacher's output shape"):
        DistillationTrainer(net, linear_net(np.zeros((4, 64)), np.zeros(4), (8, 8, 1)))
    with pytest.raises(ValueError, match="teacher's input shape"):
        DistillationTrainer(net, linear_net(np.zeros((3, 2)), np.zeros(3)))
    with pytest.raises(TypeError, match="`teacher`"):
        DistillationTrainer(len)
    with pytest.raises(ValueError, match="`loss` to be left out"):
        DistillationTrainer(net).compile("sgd", loss="mse")
    with pytest.raises(ValueError, match="compiled before `fit_teacher`"):
        DistillationTrainer(net).fit_teacher(np.zeros((1, 8, 8, 1)), [0])


def test_student_sees_images_as_the_teacher_does(images):
    norm = keras.layers.Normalization()
    norm.adapt(images)
    dense = keras.layers.Dense(3)
    teacher = keras.Sequential(
        [keras.Input((8, 8, 1)), norm, keras.layers.Flatten(), dense]
    )
    student = DistillationTrainer(teacher).student
    np.testing.assert_allclose(student.layers[0](images), norm(images), atol=1e-6)
    assert np.abs(student.layers[2].kernel - dense.kernel).max() > 0.01


def test_invariants_of_soft_labels(digits):
    teacher, x = small_net(), digits.x_train[:20]
    logits = teacher(x).numpy()
    soft = {
        each: DistillationTrainer(teacher, temperature=each).soft_labels(x).numpy()
        for each in (0.5, 1.0, 5.0, 100.0, 1e6)
    }
    entropies = [scipy.stats.entropy(q, axis=1) for q in soft.values()]
    assert (np.diff(entropies, axis=0) >= -1e-6).all()
    for each in (0.5, 1.0, 5.0):
        np.testing.assert_allclose(soft[each].sum(1), 1, atol=1e-6)
        np.testing.assert_array_equal(soft[each].argmax(1), logits.argmax(1))
    np.testing.assert_allclose(soft[1e6], 1 / 3, atol=1e-4)
    last = teacher.layers[-1]
    last.set_weights([5.0 * weights for weights in last.get_weights()])
    again = DistillationTrainer(teacher, temperature=5.0).soft_labels(x)
    np.testing.assert_allclose(again, soft[1.0], atol=1e-5)


def test_at_one_it_is_training_on_soft_labels(digits):
    x, y = digits.x_train[:32], digits.y_train[:32]
    trainer = DistillationTrainer(small_net(), temperature=1.0)
    twin = keras.models.clone_model(trainer.student)
    twin.set_weights(trainer.student.get_weights())
    trainer.compile(keras.optimizers.SGD(0.5))
    trainer.fit(x, y, shuffle=False, verbose=0)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    twin.compile(keras.optimizers.SGD(0.5), loss)
    twin.fit(x, trainer.soft_labels(x).numpy(), shuffle=False, verbose=0)
    weights = (each.get_weights() for each in (twin, trainer.student))
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_losses_of_the_teachers_layers_do_not_count():
    dense = keras.layers.Dense(2, activity_regularizer="l2", kernel_regularizer="l2")
    teacher = keras.Sequential([keras.Input((2, 1, 1)), keras.layers.Flatten(), dense])
    trainer = DistillationTrainer(teacher)
    trainer.compile(keras.optimizers.SGD(0.0))
    x = np.ones((4, 2, 1, 1), "float32")
    found = trainer.fit(x, np.zeros(4), verbose=0).history["loss"][0]
    logits = trainer.student(x) / 20
    soft = trainer.soft_labels(x)
    entropy = tf.nn.softmax_cross_entropy_with_logits(soft, logits)
    expected = tf.reduce_mean(entropy) + sum(trainer.student.losses)
    assert found == pytest.approx(float(expected), rel=1e-4)


# Shorter: the distilled nets in tests/evaluation/test_evaluate_robustness.py.
@pytest.mark.slow
@pytest.mark.nightly
def test_hides_gradients_and_no_more(epoch, digits):
    layers = keras.layers
    hidden = layers.Dense(32, activation="relu")
    teacher = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Flatten(), hidden, layers.Dense(3)]
    )
    trainer = DistillationTrainer(teacher, temperature=100.0)
    trainer.compile(keras.optimizers.Adam(0.02))
    for fit in (trainer.fit_teacher, trainer.fit):
        fit(*epoch, epochs=10, verbose=0)
    x, y, net = tf.constant(digits.x_test), digits.y_test, trainer.student
    zero = {}
    for divisor in (1.0, 100.0):
        with tf.GradientTape() as tape:
            tape.watch(x)
            logits = net(x) / divisor
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits)
        slopes = tape.gradient(loss, x).numpy().reshape(len(y), -1)
        zero[divisor] = np.mean((slopes == 0).all(axis=1))
    assert zero[1.0] > 0.5
    assert zero[100.0] < 0.05
    left = []
    for attack in (PGD(0.2, steps=10), APGD(0.2, steps=10, loss="dlr")):
        found = attack.generate(net, digits.x_test, y, seed=0, verbose=0)
        left.append(np.mean(net(found).numpy().argmax(1) == y))
    assert left[0] > 0.5
    assert left[1] < 0.05
