import keras
import numpy as np
import pytest

from keras_advdef.attacks import FGSM, PGD
from keras_advdef.callbacks import CatastrophicOverfittingGuard
from keras_advdef.core.progress import meter
from keras_advdef.training import AdversarialTrainingModel
from tests.support.nets import random_net, small_net, sparse_loss, weights_of


def trained_model(net=None, **options):
    model = AdversarialTrainingModel(net or small_net(), FGSM(0.1), seed=1)
    model.compile(keras.optimizers.Adam(0.01, **options), sparse_loss())
    return model


def plain_model(optimizer="sgd"):
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    model.compile(optimizer, sparse_loss())
    return model


def scripted(guard, *accuracies):
    """Gives pairs of accuracies under FGSM and PGD, the first before training."""
    values = iter(accuracies)
    guard._measure = lambda: next(values)
    return guard


def state_of(model):
    return [*weights_of(model), *map(np.array, model.optimizer.variables)]


class _States(keras.callbacks.Callback):
    """Keeps the state after each epoch, as callbacks before the guard see it."""

    def on_train_begin(self, logs=None):
        self.states = []

    def on_epoch_end(self, epoch, logs=None):
        self.states.append(state_of(self.model))


COLLAPSE = ((0.4, 0.3), (0.5, 0.45), (0.55, 0.5), (0.95, 0.1))


class TestCatastrophicOverfittingGuard:
    def test_logs_the_accuracies(self, images, labels):
        model = trained_model()
        guard = CatastrophicOverfittingGuard(
            images, np.eye(3)[labels], epsilon=0.1, steps=3, batch_size=4
        )
        logs = model.fit(images, labels, callbacks=[guard], verbose=0).history
        for name, attack in (("fgsm", FGSM(0.1)), ("pgd", PGD(0.1, steps=3))):
            found = attack.generate(
                model, images, labels, seed=0, batch_size=4, verbose=0
            )
            expected = np.mean(np.argmax(model(found), axis=-1) == labels)
            assert logs[f"probe_{name}_accuracy"] == [pytest.approx(expected)]

    def test_goes_back_to_the_best_epoch_and_stops(self, images, labels, capsys):
        model = trained_model(random_net())
        guard = CatastrophicOverfittingGuard(images, labels, epsilon=0.1)
        scripted(guard, *COLLAPSE)
        states = _States()
        logs = model.fit(
            images, labels, epochs=9, callbacks=[states, guard], verbose=0
        ).history
        assert logs["probe_pgd_accuracy"] == [0.45, 0.5, 0.1]
        assert logs["probe_fgsm_accuracy"] == [0.5, 0.55, 0.95]
        assert guard.collapses == [2]
        differs = []
        for now, best, last in zip(state_of(model), *states.states[1:], strict=True):
            np.testing.assert_array_equal(now, best)
            differs.append((best != last).any())
        # The weights, moving statistics, draws, slots and the count have moved since.
        assert sum(differs) > len(model.trainable_variables)
        said = capsys.readouterr().out
        assert said == (
            "Catastrophic overfitting in epoch 3: accuracy under PGD went from 50.0% "
            "to 10.0% and under FGSM from 55.0% to 95.0%; the model is back at the end "
            "of epoch 2, and training stops.\n"
        )

    def test_going_on_is_training_from_the_best_epoch(self, images, labels):
        after = []
        for accuracies in (
            (*COLLAPSE[:3], COLLAPSE[-1], (0.5, 0.5)),
            (*COLLAPSE[:3], (0.5, 0.5)),
        ):
            keras.utils.set_random_seed(0)
            model = random_net()
            model.compile("adam", sparse_loss())
            guard = CatastrophicOverfittingGuard(
                images, labels, epsilon=0.1, then="continue", on_collapse=lambda _: None
            )
            scripted(guard, *accuracies)
            model.fit(
                images,
                labels,
                epochs=len(accuracies) - 1,
                callbacks=[guard],
                verbose=0,
                shuffle=False,
            )
            after.append(state_of(model))
        for one, other in zip(*after, strict=True):
            np.testing.assert_array_equal(one, other)

    def test_continues_at_half_the_learning_rate_each_time(
        self, images, labels, capsys
    ):
        model = plain_model(keras.optimizers.SGD(0.01))
        guard = CatastrophicOverfittingGuard(
            images, labels, epsilon=0.1, then="continue"
        )
        scripted(guard, *COLLAPSE, (0.9, 0.0), (0.6, 0.6))
        model.fit(images, labels, epochs=5, callbacks=[guard], verbose=0)
        assert guard.collapses == [2, 3]
        assert float(model.optimizer.learning_rate) == pytest.approx(0.0025)
        assert (
            "training goes on at a learning rate of 0.005." in capsys.readouterr().out
        )

    def test_what_a_function_changes_stays(self, images, labels):
        model = trained_model()
        guard = CatastrophicOverfittingGuard(
            images,
            labels,
            epsilon=0.1,
            then="continue",
            on_collapse=lambda model: model.epsilon.assign(0.5 * model.epsilon),
        )
        scripted(guard, *COLLAPSE, (0.9, 0.0))
        model.fit(images, labels, epochs=4, callbacks=[guard], verbose=0)
        assert float(model.epsilon) == pytest.approx(0.025)
        assert float(model.optimizer.learning_rate) == pytest.approx(0.01)

    def test_leaves_other_falls_alone(self, images, labels, capsys):
        model = plain_model()
        guard = CatastrophicOverfittingGuard(images, labels, epsilon=0.1)
        both, small, nearly_both = (0.3, 0.2), (0.95, 0.31), (0.4, 0.25)
        scripted(guard, *COLLAPSE[:3], both, small, nearly_both)
        model.fit(images, labels, epochs=5, callbacks=[guard], verbose=0)
        assert not guard.collapses
        assert not capsys.readouterr().out

    def test_the_start_counts(self, images, labels):
        model = plain_model()
        start = weights_of(model)
        guard = CatastrophicOverfittingGuard(images, labels, epsilon=0.1)
        scripted(guard, (0.5, 0.5), (0.9, 0.0))
        model.fit(images, labels, epochs=3, callbacks=[guard], verbose=0)
        for one, other in zip(start, weights_of(model), strict=True):
            np.testing.assert_array_equal(one, other)

    def test_is_compiled_once(self, images, labels):
        model = plain_model()
        guard = CatastrophicOverfittingGuard(images, labels, epsilon=0.1, steps=2)
        traces = []
        after = keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda *_: traces.append(meter.traces)
        )
        model.fit(images, labels, epochs=3, callbacks=[guard, after], verbose=0)
        assert traces[0] == traces[-1]

    def test_a_schedule_cannot_be_halved(self, images, labels):
        schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
        model = plain_model(keras.optimizers.SGD(schedule))
        guard = CatastrophicOverfittingGuard(
            images, labels, epsilon=0.1, then="continue"
        )
        with pytest.raises(
            ValueError, match=r"`learning_rate` to be a number.*on_coll"
        ):
            model.fit(images, labels, callbacks=[guard], verbose=0)

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            ({"epsilon": 0}, ValueError, "`epsilon` to be a finite number above 0"),
            ({"drop": 0}, ValueError, "`drop` to be"),
            ({"steps": 0}, ValueError, "`steps` to be"),
            ({"then": "wait"}, ValueError, "`then` to be one of 'stop', 'continue'"),
            ({"on_collapse": 3}, TypeError, "`on_collapse` to be a function"),
            ({"images": np.zeros((0, 8, 8, 1))}, ValueError, "at least one image"),
            ({"labels": [0]}, ValueError, "`labels`"),
            ({"norm": "l7"}, ValueError, "`norm`"),
        ],
    )
    def test_rejects(self, change, error, message, images, labels):
        given = {"images": images, "labels": labels, "epsilon": 0.1, **change}
        with pytest.raises(error, match=message):
            CatastrophicOverfittingGuard(**given)
