import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import _apgd_momentum as apgd_momentum


@pytest.mark.parametrize(
    ("steps", "places"),
    [
        (100, [22, 41, 57, 70, 80, 87, 93, 99]),
        (50, [11, 21, 30, 38, 45]),
        (20, [4, 7, 9, *range(10, 20)]),
        (1, []),
    ],
)
def test_checkpoints_are_those_of_the_paper(steps, places):
    table = apgd_momentum.windows(steps)
    assert np.flatnonzero(table).tolist() == places
    # Each window reaches back to the checkpoint before.
    assert table[places].tolist() == np.diff([0, *places]).tolist()


def _state():
    half = tf.fill((1, 2, 1, 1), 0.5)
    state = {"iterate": half, "images": half, "best_loss": tf.zeros(1)}
    return apgd_momentum.init_state(state, tf.constant(0.1))


def _run(losses, steps=10):
    """Steps along a constant gradient with the given losses; returns every state."""
    state, table = _state(), apgd_momentum.windows(steps)
    states = []
    for taken, loss in enumerate(losses):
        state = apgd_momentum.step(
            state,
            tf.constant([loss]),
            tf.constant([1.0, -1.0], shape=(1, 2, 1, 1)),
            epsilon=tf.constant(0.1),
            norm="linf",
            taken=tf.constant(float(taken)),
            table=table,
        )
        states.append(state)
    return states


def test_rising_losses_keep_the_step_size():
    # Checkpoints of ten steps: 2, 3, 4, ...
    states = _run([1.0, 2.0, 3.0, 4.0])
    assert [float(s["step_size"][0]) for s in states] == pytest.approx([0.2] * 4)


def test_falling_losses_halve_it_and_go_back_to_the_peak():
    # Losses 5, 4, 3: no step of the window rose, and the peak is the first point.
    states = _run([5.0, 4.0, 3.0])
    sizes = [float(s["step_size"][0]) for s in states]
    assert sizes == pytest.approx([0.2, 0.2, 0.1])
    np.testing.assert_allclose(states[2]["previous"], states[0]["peak"])
    np.testing.assert_allclose(states[2]["peak"], np.full((1, 2, 1, 1), 0.5))


def test_the_first_step_has_no_momentum_and_the_second_has():
    states = _run([1.0, 2.0])
    # .5 + .2 leaves the ball of .1 and is projected to .6; the second stays there:
    # .6 + .75 (.6 - .6) + .25 (.6 - .5) = .625, projected to .6 again.
    np.testing.assert_allclose(np.ravel(states[0]["iterate"]), [0.6, 0.4], atol=1e-6)
    np.testing.assert_allclose(np.ravel(states[1]["iterate"]), [0.6, 0.4], atol=1e-6)


def test_rows_may_be_at_different_steps():
    table = apgd_momentum.windows(10)
    half = tf.fill((2, 2, 1, 1), 0.5)
    state = {"iterate": half, "images": half, "best_loss": tf.zeros(2)}
    state = apgd_momentum.init_state(state, tf.constant(0.1))
    state["last_loss"] = tf.constant([9.0, 9.0])
    state = apgd_momentum.step(
        state,
        tf.constant([1.0, 1.0]),
        tf.ones_like(half),
        epsilon=tf.constant(0.1),
        norm="l2",
        taken=tf.constant([1.0, 2.0]),
        table=table,
    )
    # Only the second row is at a checkpoint.
    np.testing.assert_allclose(state["step_size"], [0.2, 0.1])
