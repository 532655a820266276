import keras
import numpy as np
import pytest

from keras_advdef.attacks import FGSM
from keras_advdef.callbacks import RobustAccuracy
from tests.support.nets import small_net, sparse_loss


@pytest.fixture
def model():
    net = small_net()
    net.compile("sgd", sparse_loss())
    return net


class TestRobustAccuracy:
    def test_is_the_accuracy_under_the_attack(self, model, images, labels):
        callback = RobustAccuracy(FGSM(0.1), (images, labels), batch_size=4)
        logs = model.fit(images, labels, callbacks=[callback], verbose=0).history
        adversarial = FGSM(0.1)(model, images, labels)
        expected = np.mean(np.argmax(model(adversarial), axis=-1) == labels)
        assert logs["val_robust_accuracy"] == [pytest.approx(expected)]

    def test_one_hot_labels(self, model, images, labels):
        logs = []
        for y in (labels, np.eye(3)[labels], labels[:, None]):
            callback = RobustAccuracy(FGSM(0.1), (images, y))
            callback.set_model(model)
            logs.append({})
            callback.on_epoch_end(0, logs[-1])
        assert logs[0] == logs[1] == logs[2]

    def test_labels_that_name_no_class_are_refused(self, images, labels):
        soft = 0.9 * np.eye(3)[labels] + 0.1 / 3
        with pytest.raises(
            ValueError, match="`RobustAccuracy` expects `labels` to be o"
        ):
            RobustAccuracy(FGSM(0.1), (images, soft))

    def test_repeats_between_measurements(self, model, images, labels, monkeypatch):
        callback = RobustAccuracy(FGSM(0.1), (images, labels), frequency=2)
        values = iter([0.1, 0.2, 0.3])
        monkeypatch.setattr(callback, "_measure", lambda: next(values))
        logs = model.fit(
            images, labels, epochs=5, callbacks=[callback], verbose=0
        ).history
        assert logs["val_robust_accuracy"] == [0.1, 0.1, 0.2, 0.2, 0.3]

    def test_can_be_monitored_by_those_after_it(self, model, images, labels):
        callback = RobustAccuracy(FGSM(0.1), (images, labels))
        stop = keras.callbacks.EarlyStopping(
            "val_robust_accuracy", mode="max", patience=1
        )
        model.fit(images, labels, epochs=2, callbacks=[callback, stop], verbose=0)
        assert stop.best is not None

    def test_refuses_to_stand_after_its_monitor(self, model, images, labels):
        callback = RobustAccuracy(FGSM(0.1), (images, labels))
        stop = keras.callbacks.EarlyStopping("val_robust_accuracy", mode="max")
        with pytest.raises(ValueError, match="listed before `EarlyStopping`"):
            model.fit(images, labels, callbacks=[stop, callback], verbose=0)

    def test_changes_no_variable(self, model, images, labels):
        before = model.get_weights()
        callback = RobustAccuracy(FGSM(0.1), (images, labels))
        callback.set_model(model)
        callback.on_epoch_end(0, {})
        for one, other in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            (("FGSM", (1, 2)), TypeError, "`attack` to be an `Attack`"),
            ((FGSM(0.1), 3), ValueError, "a pair"),
            ((FGSM(0.1), (1, 2), 0), ValueError, "`frequency`"),
        ],
    )
    def test_rejects(self, arguments, error, message):
        with pytest.raises(error, match=message):
            RobustAccuracy(*arguments)
