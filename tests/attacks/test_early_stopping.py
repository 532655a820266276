import numpy as np

from keras_advdef.attacks import PGD
from keras_advdef.attacks._compiled_attack import CompiledAttack
from tests.support.nets import linear_net


def _counted(monkeypatch):
    """Counts how often attacks move a block of images on."""
    calls, advance = [], CompiledAttack.advance

    def counted(self, state, *arguments):
        calls.append(len(state["labels"]))
        return advance(self, state, *arguments)

    monkeypatch.setattr(CompiledAttack, "advance", counted)
    return calls


def test_broken_images_leave_in_blocks_of_few_sizes(trained_net, digits, monkeypatch):
    attack, calls = PGD(0.1, steps=30), _counted(monkeypatch)
    attack.generate(
        trained_net,
        digits.x_test,
        digits.y_test,
        seed=0,
        batch_size=32,
        verbose=0,
        stop_early=True,
    )
    assert 2 <= len(set(calls)) <= 4
    assert CompiledAttack(attack, trained_net).function("look").traces == 1


def test_less_work_than_running_every_image_to_the_end(
    trained_net, digits, monkeypatch
):
    attack, calls = PGD(0.5, steps=30), _counted(monkeypatch)
    x, y = digits.x_test[:64], digits.y_test[:64]
    attack.generate(trained_net, x, y, batch_size=16, verbose=0, stop_early=True)
    # Ten steps break nearly all: far fewer than 64 / 16 batches of three segments.
    assert len(calls) < 9


def test_unbroken_images_get_every_restart(net, images, labels):
    attack = PGD(0.001, steps=2, restarts=3)
    predicted = np.argmax(net(images), axis=-1)
    result = attack.generate(net, images, predicted, verbose=0, stop_early=True)
    assert np.abs(result - images).max() < 0.0011


def test_no_image_gets_more_steps_than_asked_for():
    # Thirteen steps run in segments of ten: seven of the second must change nothing.
    net = linear_net(np.eye(2), np.zeros(2))
    x = np.array([0.9, 0.2], "float32").reshape(1, 2, 1, 1)
    attack = PGD(0.5, steps=13, step_size=0.001, random_start=False)
    result = attack.generate(net, x, [0], verbose=0, stop_early=True)
    np.testing.assert_allclose(result - x, [[[[-0.013]], [[0.013]]]], atol=1e-6)
