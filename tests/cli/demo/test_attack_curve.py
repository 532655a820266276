import keras
import numpy as np
import pytest

from keras_advdef.cli.demo._attack_curve import attack_curve


class _Shift:
    """Moves every pixel by epsilon, up or down: a stand-in for an attack."""

    def __init__(self, sign):
        self.sign = sign

    def generate(self, model, images, labels, *, epsilon, **options):
        del model, labels, options
        return images + self.sign * epsilon


@pytest.fixture
def threshold():
    """Class 1 above one half, class 0 below."""
    model = keras.Sequential([keras.Input((1, 1, 1)), keras.layers.Flatten()])
    model.add(keras.layers.Dense(2))
    model.layers[-1].set_weights([np.array([[0.0, 2.0]]), np.array([0.0, -1.0])])
    return model


def _curve(model, attack, notes):
    images = np.array([0.1, 0.4, 0.6, 0.45], np.float32).reshape(4, 1, 1, 1)
    return attack_curve(
        model,
        attack,
        images=images,
        labels=np.array([0, 0, 1, 1]),
        epsilons=[0.0, 0.15, 0.5],
        seed=0,
        advance=notes.append,
    )


class TestAttackCurve:
    def test_counts_by_hand(self, threshold):
        notes = []
        curve = _curve(threshold, _Shift(1), notes)
        # Clean: 0.45 of class 1 is wrong. Shifted up by 0.15: 0.4 becomes wrong, and
        # 0.45 right, which does not count. By 0.5: 0.1 becomes wrong, too.
        assert [estimate.correct for estimate in curve] == [3, 2, 1]
        assert {estimate.count for estimate in curve} == {4}
        assert notes[0] == "epsilon 0: 75.0 %"

    def test_other_direction(self, threshold):
        curve = _curve(threshold, _Shift(-1), [])
        assert [estimate.correct for estimate in curve] == [3, 2, 2]
