import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import APGD, PGD, apgd
from keras_advdef.core.norms import norm_per_image
from tests.attacks.test_gradient_attack import NEAREST, POINT
from tests.support.check_attack import inside
from tests.support.nets import linear_net

CONTRACT = [
    {"epsilon": 0.1, "steps": 12},
    {"epsilon": 0.5, "norm": "l2", "steps": 12, "loss": "dlr"},
    {"epsilon": 3.0, "norm": "l1", "steps": 12},
]
SHAPE = (1, 4, 1, 1)
GRADIENT = np.array([1.0, 4.0, 2.0, 3.0], "float32").reshape(SHAPE)


class TestAPGD:
    @pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
    def test_succeeds_exactly_beyond_the_boundary_of_a_linear_model(self, norm):
        net = linear_net(np.eye(2), np.zeros(2))
        attack = APGD(norm=norm, steps=50, loss="margin")
        for factor, broken in ((0.995, False), (1.005, True)):
            result = attack(net, POINT, [0], epsilon=factor * NEAREST[norm], seed=0)
            assert (np.argmax(net(result)) != 0) == broken
            assert inside(result, POINT, factor * NEAREST[norm], norm)

    @pytest.mark.parametrize(
        ("norm", "epsilon"), [("linf", 0.1), ("l2", 0.5), ("l1", 2)]
    )
    def test_as_strong_as_pgd_of_equal_passes(self, norm, epsilon, trained_net, digits):
        x, y = digits.x_test, digits.y_test
        left = []
        for attack in (
            APGD(epsilon, norm=norm, steps=30),
            PGD(epsilon, norm=norm, steps=30),
        ):
            found = attack.generate(trained_net, x, y, seed=0, verbose=0)
            left.append(np.sum(attack.predict(trained_net, found) == y))
        assert 0 < left[0] <= left[1] + 2

    def test_dlr_does_not_care_for_the_scale_of_the_logits(self, trained_net, digits):
        x, y = digits.x_test[:60], digits.y_test[:60]
        left = []
        for scale in (1.0, 1e3):
            attack = APGD(0.1, steps=20, loss="dlr")
            found = attack(
                lambda images, s=scale: s * trained_net(images), x, y, seed=0
            )
            left.append(np.sum(np.argmax(trained_net(found), axis=-1) == y))
        assert abs(left[0] - left[1]) <= 1

    def test_targeted_dlr_tries_every_wrong_class(self):
        # Class 3 is the least likely, yet the only one within reach: its logit rises
        # ten times as fast.
        weights = np.zeros((4, 2))
        weights[3] = [0.0, 10.0]
        net = linear_net(weights, np.array([1.0, 0.5, 0.4, -2.0]))
        x = np.array([0.5, 0.2], "float32").reshape(1, 2, 1, 1)
        for attack in (
            APGD(0.2, steps=5, loss="targeted_dlr"),
            APGD(0.2, steps=5, loss="targeted_dlr", restarts=2),
        ):
            found = attack(net, x, [0], seed=0)
            assert int(np.argmax(net(found))) == 3
            early = attack.generate(net, x, [0], seed=0, verbose=0, stop_early=True)
            assert int(np.argmax(net(early))) == 3

    def test_below_four_classes_it_says_that_the_margin_takes_over(self, net, images):
        with pytest.warns(UserWarning, match="needs 4 classes, the model has 3"):
            APGD(0.1, steps=1, loss="targeted_dlr")(net, images, [0] * 6)

    def test_early_stopping_breaks_the_same_images(self, trained_net, digits):
        x, y = digits.x_test, digits.y_test
        attack, broken = APGD(0.1, steps=25), []
        for early in (False, True):
            found = attack.generate(
                trained_net, x, y, seed=0, batch_size=64, verbose=0, stop_early=early
            )
            assert inside(found, x, 0.1, "linf")
            broken.append(attack.predict(trained_net, found) != y)
        assert 0.1 < np.mean(broken[0]) < 0.95
        assert np.mean(broken[0] == broken[1]) >= 0.97

    @pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
    def test_no_gradient_gives_no_nan(self, norm, images, labels):
        def constant(batch):
            return tf.reduce_sum(batch, (1, 2, 3))[:, None] * tf.zeros((1, 4))

        for loss in ("cross_entropy", "dlr", "targeted_dlr"):
            attack = APGD(0.1, norm=norm, steps=4, loss=loss)
            assert np.isfinite(attack(constant, images, labels, seed=0)).all()

    def test_names_itself(self):
        assert str(APGD(0.1, restarts=2)) == "APGD-100 on cross_entropy x 2"


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
    table = apgd.windows(steps)
    assert np.flatnonzero(table).tolist() == places
    # Each window reaches back to the checkpoint before.
    assert table[places].tolist() == np.diff([0, *places]).tolist()


def _state():
    half = tf.fill((1, 2, 1, 1), 0.5)
    state = {"iterate": half, "images": half, "best_loss": tf.zeros(1)}
    return apgd.momentum_state(state, tf.constant(0.1))


def _run(losses, steps=10):
    """Steps along a constant gradient with the given losses; returns every state."""
    state, table = _state(), apgd.windows(steps)
    states = []
    for taken, loss in enumerate(losses):
        state = apgd.momentum_step(
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
    table = apgd.windows(10)
    half = tf.fill((2, 2, 1, 1), 0.5)
    state = {"iterate": half, "images": half, "best_loss": tf.zeros(2)}
    state = apgd.momentum_state(state, tf.constant(0.1))
    state["last_loss"] = tf.constant([9.0, 9.0])
    state = apgd.momentum_step(
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


def _step(state, taken, loss=1.0):
    return apgd.sparse_step(
        state,
        tf.constant([loss]),
        tf.constant(GRADIENT),
        epsilon=tf.constant(0.1),
        taken=tf.constant(float(taken)),
        schedule=apgd.sparse_schedule(10),
    )


def _sparse_state():
    half = tf.fill(SHAPE, 0.5)
    state = {"iterate": half, "images": half, "best_loss": tf.zeros(1)}
    return apgd.sparse_state(state, tf.constant(0.1))


def test_balls_shrink_from_three_epsilons_to_one():
    state, scales = _sparse_state(), []
    for taken in range(10):
        state = _step(state, taken, loss=float(taken))
        scales.append(float(state["scale"][0]))
        size = float(norm_per_image(state["iterate"] - 0.5, "l1")[0])
        assert size <= 0.1 * scales[-1] + 1e-6
    assert scales == [3.0] * 3 + [2.0] * 3 + [1.0] * 4


def test_a_fifth_of_the_pixels_moves_first():
    # One pixel of four, the steepest, by the whole radius of three epsilons.
    moved = np.ravel(_step(_sparse_state(), 0)["iterate"])
    np.testing.assert_allclose(moved, [0.5, 0.8, 0.5, 0.5], atol=1e-6)


def test_only_points_of_the_real_ball_may_be_returned():
    state = _sparse_state()
    np.testing.assert_array_equal(state["best"], state["images"])
