import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import FGSM, PGD
from keras_advdef.callbacks import PerturbationSchedule, RobustAccuracy
from keras_advdef.constraints import Parseval
from keras_advdef.core.cards import cards_in
from keras_advdef.layers import RandomNoise
from keras_advdef.objectives import (
    AdversarialCrossEntropy,
    CrossLipschitz,
    DeepDefense,
    Objective,
    Penalty,
)
from keras_advdef.surgery import parseval_network
from keras_advdef.training import AdversarialTrainingModel
from tests.support.nets import busy_net, small_net, sparse_loss
from tests.support.trades import Trades


@keras.saving.register_keras_serializable(package="tests")
class LogitSize(Penalty):
    def __call__(self, model, images, labels):
        logits = model.classifier(images, training=False)
        return self.weight * tf.reduce_sum(logits**2, axis=-1)


@keras.saving.register_keras_serializable(package="tests")
class Frozen(Penalty):
    def __call__(self, model, images, labels):
        return self.weight * tf.reduce_sum(images, axis=(1, 2, 3))


def compiled(net, *arguments, optimizer="sgd", metrics=(), **options):
    compile_options = {
        name: options.pop(name)
        for name in ("jit_compile", "run_eagerly", "steps_per_execution")
        if name in options
    }
    model = AdversarialTrainingModel(net, *arguments, **options)
    model.compile(optimizer, sparse_loss(), metrics=list(metrics), **compile_options)
    return model


# Tracing a step takes ten times as long as a few steps do. That they are the same is
# in `test_options_of_compile_change_nothing`.
untraced = functools.partial(compiled, run_eagerly=True)


def test_parseval_cross_lipschitz_and_adversarial_images_add_up(digits):
    x, y = digits.x_train[:8], digits.y_train[:8]
    net = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(12, activation="softplus"),
            keras.layers.Dense(3),
        ]
    )
    net = parseval_network(net, beta=0.1)
    attack, penalty = FGSM(0.1), CrossLipschitz(weight=0.5)
    model = compiled(
        net, attack, penalties=[penalty], optimizer=keras.optimizers.SGD(0.5)
    )
    adversarial = attack(net, tf.constant(x), tf.constant(y))
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(
            penalty(model, x, y)
            + keras.losses.sparse_categorical_crossentropy(
                y, net(adversarial), from_logits=True
            )
        )
    gradients = tape.gradient(loss, net.trainable_weights)
    expected = [
        weight - 0.5 * gradient
        for weight, gradient in zip(net.get_weights(), gradients, strict=True)
    ]
    # Kernels take the constraint's step behind that of the optimizer, biases do not.
    expected[0], expected[2] = map(Parseval(beta=0.1), expected[::2])
    history = model.fit(x, y, batch_size=8, verbose=0).history
    assert history["loss"][0] == pytest.approx(float(loss), rel=1e-5)
    for found, wanted in zip(net.get_weights(), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert float(tf.reduce_mean(penalty(model, x, y))) > 1e-3


def one_unit_net(activation=None):
    head = keras.layers.Dense(1, activation=activation)
    net = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), head])
    kernel = np.random.default_rng(0).normal(size=(64, 1)) / 8
    head.set_weights([kernel, np.array([0.1])])
    return net


def history_of_two_classes(net, loss, accuracy, data, *, eager):
    """Returns what a training with everything that counts labels tells."""
    model = AdversarialTrainingModel(
        net,
        FGSM(0.05),
        AdversarialCrossEntropy(0.5),
        [DeepDefense(steps=1, weight=0.1)],
        FGSM(0.05),
        seed=1,
    )
    model.compile(
        keras.optimizers.SGD(0.1), loss, metrics=[accuracy], run_eagerly=eager
    )
    robust = RobustAccuracy(FGSM(0.05), data)
    options = {"epochs": 2, "shuffle": False, "verbose": 0}
    options |= {"validation_data": data, "callbacks": [robust]}
    history = model.fit(*data, **options).history
    assert net.predict(data[0], verbose=0).shape == (6, net.output_shape[-1])
    return history


@pytest.fixture(scope="module")
def of_two_logits():
    """The history of a net of two classes whose first logit is 0."""
    unit = one_unit_net()
    outputs = unit.outputs[0]
    outputs = keras.ops.concatenate([0.0 * outputs, outputs], axis=-1)
    images = np.random.default_rng(0).uniform(0.05, 0.95, (6, 8, 8, 1))
    return history_of_two_classes(
        keras.Model(unit.inputs, outputs),
        sparse_loss(),
        "accuracy",
        (images.astype("float32"), np.arange(6) % 2),
        eager=True,
    )


@pytest.fixture(scope="module")
def weights_trained_by(digits):
    """Returns the weights after a training with options of `compile`."""

    def trained(**options):
        keras.utils.set_random_seed(5)
        net = small_net()
        model = compiled(net, PGD(0.1, steps=2), seed=1, **options)
        x, y = digits.x_train[:60], digits.y_train[:60]
        model.fit(x, y, batch_size=16, epochs=2, verbose=0)
        return net.get_weights()

    return trained


@pytest.fixture(scope="module")
def weights_by_default(weights_trained_by):
    return weights_trained_by()


class TestAdversarialTrainingModel:
    def test_training_makes_a_net_robust(self, trained_net, digits):
        keras.utils.set_random_seed(1)
        robust = small_net()
        rate = keras.optimizers.Adam(0.004)
        model = compiled(robust, PGD(0.08, steps=4), optimizer=rate)
        model.fit(digits.x_train, digits.y_train, batch_size=32, epochs=15, verbose=0)
        left, attack = {}, PGD(0.08, steps=10)
        for name, net in (("plain", trained_net), ("adversarial", robust)):
            found = attack.generate(
                net, digits.x_test, digits.y_test, seed=0, verbose=0
            )
            left[name] = np.mean(attack.predict(net, found) == digits.y_test)
        # A net that answers the same for all images gets a third of them right.
        assert left["adversarial"] > left["plain"] + 0.15 > 0.5

    def test_one_step_is_the_hand_written_one(self, images, labels):
        net, twin = small_net(), small_net()
        twin.set_weights(net.get_weights())
        attack = PGD(0.1, steps=2, random_start=False, return_best=False)
        model = compiled(net, attack, optimizer=keras.optimizers.SGD(0.5))
        model.fit(images, labels, batch_size=6, verbose=0, shuffle=False)

        x = tf.constant(images)
        for _ in range(2):
            with tf.GradientTape() as tape:
                tape.watch(x)
                loss = sparse_loss()(labels, twin(x, training=False))
            x = x + 0.125 * tf.sign(tape.gradient(loss, x))
            x = tf.clip_by_value(x, images - 0.1, images + 0.1)
            x = tf.clip_by_value(x, 0.0, 1.0)
        with tf.GradientTape() as tape:
            loss = sparse_loss()(labels, twin(x, training=True))
        weights = twin.trainable_weights
        gradients = tape.gradient(loss, weights)
        keras.optimizers.SGD(0.5).apply_gradients(zip(gradients, weights, strict=True))
        for one, other in zip(net.get_weights(), twin.get_weights(), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)

    def test_epsilon_zero_is_plain_training(self, images, labels):
        net, twin = small_net(), small_net()
        twin.set_weights(net.get_weights())
        twin.compile("sgd", sparse_loss())
        untraced(net, FGSM(0.0)).fit(images, labels, verbose=0)
        twin.fit(images, labels, verbose=0)
        for one, other in zip(net.get_weights(), twin.get_weights(), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)

    def test_logs(self, net, images, labels):
        model = compiled(
            net,
            FGSM(0.1),
            validation_attack=PGD(0.1, steps=2),
            metrics=["accuracy"],
        )
        history = model.fit(
            images, labels, validation_data=(images, labels), verbose=0, epochs=2
        ).history
        # Not one number twice, and none whose name hides what images it is of.
        assert set(history) == {
            "loss",
            "adversarial_accuracy",
            "val_loss",
            "val_accuracy",
            "val_adversarial_accuracy",
        }
        clean = np.mean(np.argmax(net(images), axis=-1) == labels)
        assert history["val_accuracy"][-1] == pytest.approx(clean)
        evaluated = model.evaluate(images, labels, verbose=0, return_dict=True)
        assert evaluated["adversarial_accuracy"] <= evaluated["accuracy"]
        assert evaluated["loss"] == pytest.approx(
            float(sparse_loss()(labels, net(images))), rel=1e-5
        )

    def test_logs_only_what_was_measured(self, net, images, labels):
        data = (images, labels)
        plain = untraced(net).fit(*data, validation_data=data, verbose=0)
        assert set(plain.history) == {"loss", "val_loss"}
        trained = untraced(net, FGSM(0.1)).fit(*data, validation_data=data, verbose=0)
        assert set(trained.history) == {"loss", "val_loss", "adversarial_accuracy"}
        watched = untraced(net, validation_attack=FGSM(0.1))
        history = watched.fit(*data, validation_data=data, verbose=0).history
        assert set(history) == {"loss", "val_loss", "val_adversarial_accuracy"}

    def test_logs_of_training_name_what_they_are_of(self, images, labels):
        for weight, prefix in ((0.5, "clean"), (0.0, "adversarial")):
            net = small_net()
            model = untraced(
                net,
                FGSM(0.5),
                AdversarialCrossEntropy(weight),
                optimizer=keras.optimizers.SGD(0.0),
                metrics=["accuracy", "sparse_categorical_crossentropy"],
            )
            logs = model.fit(images, labels, verbose=0).history
            adversarial = FGSM(0.5)(net, images, labels)
            x = images if prefix == "clean" else adversarial
            metric = keras.metrics.SparseCategoricalCrossentropy()
            metric.update_state(labels, net(x))
            shown = logs.pop(f"{prefix}_sparse_categorical_crossentropy")[0]
            assert shown == pytest.approx(float(metric.result()), rel=1e-4)
            del logs["loss"]
            both = {"clean_accuracy": images, "adversarial_accuracy": adversarial}
            assert set(logs) == set(both if prefix == "clean" else list(both)[1:])
            for name, values in logs.items():
                right = np.argmax(net(both[name]), axis=-1) == labels
                assert values[0] == pytest.approx(np.mean(right))

    @pytest.mark.parametrize("name", ["clean_accuracy", "adversarial_accuracy"])
    def test_accuracies_of_training_can_be_monitored(self, name, images, labels):
        stop = keras.callbacks.EarlyStopping(name, patience=1)
        model = untraced(small_net(), FGSM(0.1), AdversarialCrossEntropy(0.5))
        model.fit(images, labels, verbose=0, callbacks=[stop])
        assert stop.monitor_op(2.0, 1.0)

    @pytest.mark.parametrize(
        ("activation", "column", "eager"),
        [
            (None, False, False),
            (None, True, True),
            ("sigmoid", False, True),
            ("sigmoid", True, True),
        ],
    )
    def test_one_unit_of_two_classes(
        self, activation, column, eager, of_two_logits, images
    ):
        """Everything counts right for one unit, as for its two logits 0 and z."""
        labels = np.arange(6) % 2
        # Keras's own "accuracy" takes one logit for a probability.
        threshold = 0.0 if activation is None else 0.5
        found = history_of_two_classes(
            one_unit_net(activation),
            keras.losses.BinaryCrossentropy(from_logits=activation is None),
            keras.metrics.BinaryAccuracy("accuracy", threshold=threshold),
            (images, labels[:, None] if column else labels),
            eager=eager,
        )
        assert set(found) == set(of_two_logits)
        for name, values in found.items():
            np.testing.assert_allclose(
                values, of_two_logits[name], rtol=1e-4, err_msg=name
            )
        assert found["val_accuracy"][0] > 0

    def test_ignored_labels_count_nowhere(self, images, labels):
        loss = keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, ignore_class=-1
        )
        ignored = np.where(np.arange(6) < 2, -1, labels)
        logs = []
        for x, y in ((images, ignored), (images[2:], labels[2:])):
            keras.utils.set_random_seed(2)
            net = small_net()
            model = AdversarialTrainingModel(
                net, PGD(0.1, steps=2, random_start=False), validation_attack=FGSM(0.1)
            )
            model.compile(keras.optimizers.SGD(0.5), loss, run_eagerly=True)
            history = model.fit(
                x, y, validation_data=(x, y), shuffle=False, epochs=2, verbose=0
            )
            logs.append(history.history)
        for name, values in logs[0].items():
            np.testing.assert_allclose(values, logs[1][name], rtol=1e-5, err_msg=name)

    @pytest.mark.parametrize("order", [1, -1])
    def test_monitors_find_the_direction_in_any_order(
        self, order, net, images, labels, tmp_path
    ):
        name = "val_adversarial_accuracy"
        stop = keras.callbacks.EarlyStopping(name, patience=1)
        save = keras.callbacks.ModelCheckpoint(
            tmp_path / "best.keras", monitor=name, save_best_only=True
        )
        model = untraced(net, FGSM(0.1), validation_attack=FGSM(0.1))
        model.fit(
            images,
            labels,
            validation_data=(images, labels),
            epochs=2,
            callbacks=[stop, save][::order],
            verbose=0,
        )
        assert stop.monitor_op(2.0, 1.0)
        assert save.monitor_op(2.0, 1.0)
        assert (tmp_path / "best.keras").exists()

    def test_crafting_leaves_statistics_alone_and_own_losses_count_once(
        self, images, labels
    ):
        results = []
        for attack in (FGSM(0.0), PGD(0.0, steps=3, training=True)):
            keras.utils.set_random_seed(2)
            net = busy_net()
            model = compiled(net, attack, optimizer=keras.optimizers.SGD(0.0), seed=1)
            logs = model.fit(images, labels, batch_size=6, verbose=0).history
            results.append((logs["loss"][0], net.layers[3].moving_mean.numpy()))
        np.testing.assert_allclose(results[0][1], results[1][1], atol=1e-6)
        assert results[0][0] == pytest.approx(results[1][0], rel=1e-4)

    def test_own_losses_are_added_once(self, images, labels):
        net = keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                keras.layers.Flatten(),
                keras.layers.Dense(
                    3, kernel_regularizer="l2", activity_regularizer="l1"
                ),
            ]
        )
        model = untraced(
            net,
            FGSM(0.1),
            AdversarialCrossEntropy(0.5),
            penalties=[LogitSize(weight=0.0)],
            optimizer=keras.optimizers.SGD(0.0),
        )
        loss = model.fit(images, labels, verbose=0).history["loss"][0]
        adversarial = FGSM(0.1)(net, images, labels)
        parts = [float(sparse_loss()(labels, net(x))) for x in (images, adversarial)]
        outputs = net(adversarial).numpy()
        own = 0.01 * np.abs(outputs).sum() / 6 + 0.01 * np.sum(
            net.layers[-1].kernel.numpy() ** 2
        )
        assert loss == pytest.approx(np.mean(parts) + own, rel=1e-4)

    def test_penalties_add_up(self, images, labels):
        net = small_net()
        base = untraced(net, optimizer=keras.optimizers.SGD(0.0))
        plain = base.fit(images, labels, verbose=0).history["loss"][0]
        model = untraced(
            net,
            penalties=[LogitSize(weight=2.0), LogitSize(weight=1.0)],
            optimizer=keras.optimizers.SGD(0.0),
        )
        loss = model.fit(images, labels, verbose=0).history["loss"][0]
        size = np.mean(np.sum(net(images).numpy() ** 2, axis=-1))
        assert loss == pytest.approx(plain + 3 * size, rel=1e-5)

    def test_a_penalty_without_gradient_is_refused(self, net, images, labels):
        model = compiled(net, penalties=[Frozen(weight=1.0)])
        with pytest.raises(ValueError, match="penalties with a gradient"):
            model.fit(images, labels, verbose=0)

    def test_sample_and_class_weights(self, images, labels):
        weights = np.array([0.0, 1.0, 2.0, 0.0, 1.0, 2.0])
        results = []
        for arguments in (
            {"sample_weight": weights},
            {"class_weight": {0: 0.0, 1: 1.0, 2: 2.0}},
        ):
            keras.utils.set_random_seed(3)
            net = small_net()
            model = untraced(net, FGSM(0.1), optimizer=keras.optimizers.SGD(0.5))
            model.fit(images, labels, verbose=0, shuffle=False, **arguments)
            results.append(net.get_weights())
        for one, other in zip(*results, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)

    @pytest.mark.parametrize("combine", ["max", "average", "random"])
    def test_several_attacks(self, combine, images, labels):
        net = small_net()
        attacks = [FGSM(0.0), FGSM(0.3)]
        model = compiled(
            net,
            attacks,
            combine=combine,
            optimizer=keras.optimizers.SGD(0.0),
            seed=0,
        )
        losses = [
            model.fit(images, labels, verbose=0).history["loss"][0] for _ in range(6)
        ]
        parts = np.stack(
            [
                tf.nn.sparse_softmax_cross_entropy_with_logits(
                    labels, net(attack(net, images, labels))
                )
                for attack in attacks
            ]
        )
        if combine == "max":
            np.testing.assert_allclose(losses, parts.max(axis=0).mean(), rtol=1e-4)
        elif combine == "average":
            np.testing.assert_allclose(losses, parts.mean(), rtol=1e-4)
        else:
            each = parts.mean(axis=1)
            nearest = np.abs(np.array(losses)[:, None] - each).argmin(axis=1)
            assert set(nearest) == {0, 1}
        assert model.epsilon.shape == (2,)

    def test_the_worst_of_several_needs_a_loss_for_each_image(self, images, labels):
        model = AdversarialTrainingModel(small_net(), [FGSM(0.1), FGSM(0.2)])
        model.compile("sgd", lambda y, outputs: keras.ops.mean(outputs))
        with pytest.raises(ValueError, match="a value for each image when `combine`"):
            model.fit(images, labels, verbose=0)

    def test_objective_states_the_inner_problem(self, net, images, labels):
        model = untraced(net, PGD(0.1, steps=2), Trades())
        inner = model._attacks[0]
        assert (inner.loss, inner.random_start) == ("kl", "gaussian")
        assert model.attack.loss == "cross_entropy"
        assert np.isfinite(model.fit(images, labels, verbose=0).history["loss"][0])

    def test_save_load_and_continue(self, digits, tmp_path):
        x, y = digits.x_train[:64], digits.y_train[:64]
        net = small_net(front=[RandomNoise(0.05)])
        model = untraced(
            net,
            [FGSM(0.1), PGD(0.2, steps=2)],
            penalties=[LogitSize(weight=0.01)],
            validation_attack=FGSM(0.1),
            optimizer="adam",
        )
        model.fit(x, y, epochs=2, verbose=0)
        model.epsilon.assign([0.05, 0.1])
        model.save(tmp_path / "m.keras")
        loaded = keras.models.load_model(tmp_path / "m.keras")
        np.testing.assert_allclose(loaded.epsilon, [0.05, 0.1])
        assert int(loaded.optimizer.iterations) == int(model.optimizer.iterations)
        # Shuffling is Keras's own randomness; all other draws continue where they were.
        for each in (model, loaded):
            each.fit(x, y, epochs=2, verbose=0, shuffle=False)
        assert isinstance(loaded.penalties[0], LogitSize)
        for one, other in zip(model.get_weights(), loaded.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)

    def test_training_is_reproducible(self, images, labels):
        runs = []
        for _ in range(2):
            keras.utils.set_random_seed(5)
            net = small_net(front=[RandomNoise(0.05)])
            model = compiled(net, PGD(0.1, steps=2))
            model.fit(images, labels, epochs=2, batch_size=2, verbose=0)
            runs.append(net.get_weights())
        for one, other in zip(*runs, strict=True):
            np.testing.assert_array_equal(one, other)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "options",
        [{"jit_compile": True}, {"steps_per_execution": 3}, {"run_eagerly": True}],
        ids=["xla", "steps_per_execution", "eager"],
    )
    def test_options_of_compile_change_nothing(
        self, options, weights_trained_by, weights_by_default
    ):
        found = weights_trained_by(**options)
        for one, other in zip(found, weights_by_default, strict=True):
            np.testing.assert_allclose(one, other, atol=2e-4)

    @pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
    def test_a_mixed_precision_step_is_a_step_of_fit(self, policy, digits):
        x, y = digits.x_train[:128], digits.y_train[:128]
        attack = PGD(0.02, steps=2, random_start=False)
        start = small_net().get_weights()

        def change(policy, *, by_hand=False):
            keras.config.set_dtype_policy(policy)
            try:
                net = small_net()
                net.set_weights(start)
                images, model = x, net
                # Compiling under mixed_float16 wraps the optimizer for loss scaling.
                optimizer = keras.optimizers.SGD(1.0)
                if by_hand:
                    images = attack.generate(net, x, y, batch_size=128, verbose=0)
                    net.compile(optimizer, sparse_loss())
                else:
                    model = compiled(net, attack, optimizer=optimizer)
                model.fit(images, y, batch_size=128, verbose=0)
            finally:
                keras.config.set_dtype_policy("float32")
            moved = [w - s for w, s in zip(net.get_weights(), start, strict=True)]
            return np.concatenate([np.ravel(each) for each in moved])

        expected, found = change(policy, by_hand=True), change(policy)
        size = np.linalg.norm(expected)
        assert size > 1e-3
        assert np.linalg.norm(found - expected) < 0.05 * size
        # How far bfloat16 is from float32 depends on the processor.
        if policy == "mixed_float16":
            assert np.linalg.norm(found - change("float32")) < 0.05 * size

    def test_tf_data_and_partial_batches(self, images, labels):
        data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(4)
        model = compiled(small_net(), FGSM(0.1))
        history = model.fit(data, epochs=2, verbose=0, shuffle=False)
        assert np.isfinite(history.history["loss"]).all()

    def test_a_schedule_moves_epsilon_without_retracing(self, images, labels):
        traces = []

        class Watched(Objective):
            def __call__(self, model, images, labels, adversarial):
                traces.append(1)
                outputs = model.classifier(adversarial, training=True)
                return model.example_losses(labels, outputs), None, outputs

        model = compiled(small_net(), FGSM(0.3), Watched())
        schedule = PerturbationSchedule(lambda step: 0.01 * step)
        model.fit(
            images, labels, epochs=4, batch_size=3, callbacks=[schedule], verbose=0
        )
        assert float(model.epsilon) == pytest.approx(0.07)
        assert len(traces) == 1

    def test_export_is_the_classifier(self, net, images, tmp_path):
        model = compiled(net, FGSM(0.1), penalties=[CrossLipschitz(weight=1.0)])
        model.export(tmp_path / "served", verbose=False)
        served = tf.saved_model.load(str(tmp_path / "served"))
        np.testing.assert_allclose(served.serve(images), net(images), atol=1e-6)
        cards = cards_in(tmp_path / "served")
        assert sorted(cards) == ["AdversarialCrossEntropy", "CrossLipschitz"]

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"attack": "PGD"}, TypeError, "`attack` to be an `Attack`"),
            ({"attack": FGSM()}, ValueError, "an attack with an epsilon"),
            ({"attack": FGSM(0.1, targeted=True)}, ValueError, "an untargeted attack"),
            ({"validation_attack": FGSM()}, ValueError, "an attack with an epsilon"),
            ({"objective": "ce"}, TypeError, "`objective` to be an `Objective`"),
            ({"penalties": ["l2"]}, TypeError, "`penalties` to be a `Penalty`"),
            ({"combine": "sum"}, ValueError, "`combine` to be one of"),
            ({"seed": -1}, ValueError, "`seed`"),
        ],
    )
    def test_rejects(self, arguments, error, message, net):
        with pytest.raises(error, match=message):
            AdversarialTrainingModel(net, **arguments)

    @pytest.mark.parametrize(
        ("scale", "wrong_labels", "message"),
        [(255.0, None, "value range"), (1.0, [0, 1, 2, 3, 0, 0], r"in \[0, 3\)")],
    )
    def test_fit_checks_arrays(self, scale, wrong_labels, message, net, images, labels):
        model = compiled(net, FGSM(0.1))
        y = labels if wrong_labels is None else np.array(wrong_labels)
        with pytest.raises(ValueError, match=message):
            model.fit(scale * images, y, verbose=0)

    @pytest.mark.parametrize(
        "kind", ["tensor", "dataset", "generator", "list", "batch"]
    )
    def test_images_of_another_range_are_told_before_a_step(self, kind, images, labels):
        net = small_net()
        before = net.get_weights()
        model = compiled(net, [FGSM(0.1), FGSM(0.2)])
        x = 255 * images
        data = tf.data.Dataset.from_tensor_slices((x, labels)).batch(3)
        batches = (each for each in data.as_numpy_iterator())
        arguments = {
            "batch": (x, labels),
            "dataset": (data,),
            "generator": (batches,),
            "list": ([x], labels),
            "tensor": (tf.constant(x), tf.constant(labels)),
        }[kind]
        fit = model.train_on_batch if kind == "batch" else model.fit
        options = {"shuffle": False} if len(arguments) == 1 else {}
        with pytest.raises(ValueError, match=r"in the value range \[0, 1\]"):
            fit(*arguments, **options)
        for one, other in zip(net.get_weights(), before, strict=True):
            np.testing.assert_array_equal(one, other)

    def test_validation_data_of_another_range_are_told(self, net, images, labels):
        data = tf.data.Dataset.from_tensor_slices((255 * images, labels)).batch(3)
        model = compiled(net, validation_attack=FGSM(0.1))
        with pytest.raises(ValueError, match="value range"):
            model.fit(images, labels, validation_data=data, verbose=0)

    @pytest.mark.parametrize(
        "rows", [np.ones((6, 3)), np.zeros((6, 3)), np.full((6, 3), np.nan)]
    )
    def test_labels_that_name_no_one_class_are_refused(self, rows, net, images):
        model = AdversarialTrainingModel(net, FGSM(0.1))
        model.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True))
        data = tf.data.Dataset.from_tensor_slices((images, rows)).batch(3)
        with pytest.raises(ValueError, match="rows that sum to 1"):
            model.fit(data, verbose=0, shuffle=False)

    def test_penalties_too_need_labels_of_one_class(self, net, images):
        model = AdversarialTrainingModel(net, penalties=[DeepDefense(steps=1)])
        model.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True))
        with pytest.raises(ValueError, match="rows that sum to 1"):
            model.fit(images, np.ones((6, 3)), verbose=0)

    def test_two_inputs_are_refused_in_a_sentence(self, images, labels):
        inputs = [keras.Input((8, 8, 1)), keras.Input((8, 8, 1))]
        outputs = keras.layers.Flatten()(keras.layers.Add()(inputs))
        model = compiled(keras.Model(inputs, outputs), FGSM(0.1))
        with pytest.raises(ValueError, match=r"to be one array.*2 arrays"):
            model.fit([images, images], labels, verbose=0)

    def test_dtype_survives_a_round_trip(self):
        policy = "mixed_bfloat16"
        model = AdversarialTrainingModel(small_net(), FGSM(0.1), dtype=policy)
        copy = AdversarialTrainingModel.from_config(model.get_config())
        assert copy.dtype_policy == model.dtype_policy
        assert copy.dtype_policy.name == policy

    def test_fit_checks_validation_arrays(self, net, images, labels):
        model = compiled(net, validation_attack=FGSM(0.1))
        with pytest.raises(ValueError, match="value range"):
            model.fit(images, labels, validation_data=(images + 1, labels), verbose=0)

    def test_fit_takes_positional_arguments_as_keras_does(self, net, images, labels):
        history = compiled(net, FGSM(0.1)).fit(images, labels, 4, 2, 0)
        assert len(history.history["loss"]) == 2


class TestAccuracies:
    @staticmethod
    def counted(labels, outputs, loss="mse"):
        layers = [keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(1)]
        model = AdversarialTrainingModel(keras.Sequential(layers))
        model.compile("sgd", loss)
        model.count_accuracy("clean_accuracy", model, labels, outputs)
        return float(model.accuracies.result()["clean_accuracy"])

    @pytest.mark.parametrize("labels", [[0, 1, 1, 0], [[0], [1], [1], [0]]])
    def test_one_logit_is_of_class_one_above_zero(self, labels):
        # Above zero, but below one half.
        outputs = tf.constant([[-2.0], [0.25], [-0.1], [3.0]])
        assert self.counted(tf.constant(labels), outputs) == 0.5

    def test_one_sigmoid_unit_is_of_class_one_above_one_half(self):
        outputs = keras.ops.sigmoid(tf.constant([[-2.0], [0.25], [-0.1], [3.0]]))
        assert self.counted([0, 1, 0, 0], outputs) == 0.75

    def test_rows_and_lists_of_one(self):
        outputs = [tf.constant(np.eye(3)[[0, 1, 2, 2]])]
        assert self.counted(np.eye(3)[[0, 1, 1, 2]], outputs) == 0.75

    def test_ignored_labels_and_missing_outputs_count_nothing(self):
        loss = keras.losses.SparseCategoricalCrossentropy(ignore_class=-1)
        outputs = tf.constant(np.eye(3)[[0, 1, 2, 2]])
        assert self.counted([0, -1, -1, 0], outputs, loss) == 0.5
        assert self.counted([0, 1, 1, 0], None) == 0.0
