import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import PGD, SteppedAttack
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.random_numbers import make_key
from keras_advdef.layers import RandomNoise
from tests.support.nets import linear_net, small_net


class Counting(SteppedAttack):
    """Adds a hundredth at each step; the last run alone counts as strongest."""

    def __init__(self, epsilon=0.5, *, steps=3, **kwargs):
        super().__init__(epsilon, steps=steps, **kwargs)

    def init_state(self, logits_fn, images, labels, epsilon, key, run):
        number = tf.zeros(tf.shape(labels)) + tf.cast(run, tf.float32)
        return {
            "images": images,
            "labels": labels,
            "iterate": images + 0.1 * number[:, None, None, None],
            "best": images,
            "best_loss": number,
            "broken": tf.zeros_like(labels, tf.bool),
        }

    def step(self, logits_fn, state, epsilon, key, taken):
        moved = state["iterate"] + 0.01
        return {**state, "iterate": moved, "best": moved}


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("steps", [3, 13])
def test_every_run_takes_its_steps_and_the_strongest_counts(early, steps):
    net = linear_net(np.eye(2), [1.0, 0.0])
    x = np.full((5, 2, 1, 1), 0.2, "float32")
    attack = Counting(steps=steps, restarts=3)
    found = attack.generate(
        net, x, [0] * 5, seed=0, batch_size=2, verbose=0, stop_early=early
    )
    # The third run starts .2 further on.
    np.testing.assert_allclose(found - x, 0.2 + 0.01 * steps, atol=1e-6)


def test_bases_say_what_to_write(net):
    attack = PGD(0.1)
    for name, arguments in (("init_state", 6), ("step", 5)):
        with pytest.raises(NotImplementedError, match=f"must write `{name}`"):
            getattr(SteppedAttack, name)(attack, *[None] * arguments)


def test_success_must_hold_on_fresh_draws(digits, trained_net):
    x, y = digits.x_test[:40], digits.y_test[:40]
    noisy = small_net(front=[RandomNoise(0.3)])
    noisy.layers[-1].set_weights(trained_net.layers[-1].get_weights())
    for index in (1, 3):
        noisy.layers[index].set_weights(trained_net.layers[index - 1].get_weights())
    attack = PGD(0.02, steps=10, eot_samples=4)
    asked = []

    class Doubting(PGD):
        def confirm(self, *arguments):
            asked.append(1)
            return tf.zeros_like(super().confirm(*arguments))

    # No success ever holds, so no image leaves before its last step.
    doubting = Doubting(0.02, steps=20, eot_samples=4)
    doubting.generate(noisy, x, y, seed=0, verbose=0, stop_early=True)
    assert asked
    assert LogitsFunction(noisy).is_random
    assert attack(noisy, x, y, seed=make_key(0)).shape == x.shape
