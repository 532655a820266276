import functools
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks.square import (
    Square,
    moved_mass,
    recolored_square,
    side_length,
    stripes,
    tiles,
)
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.random_numbers import fold_in, make_key
from tests.support.check_attack import distance, inside
from tests.support.kernels import missing_kernels
from tests.support.modes import graph_and_xla
from tests.support.nets import linear_net

CONTRACT = [
    {"epsilon": 0.1, "queries": 20},
    {"epsilon": 1.0, "norm": "l2", "queries": 20},
    {"epsilon": 10.0, "norm": "l1", "queries": 20},
]
LOWEST = np.finfo("float32").min
FIRST = tf.constant(0.0)
# Stage by stage, the first proposal for which the square is smaller.
STARTS = [0.0, 11.0, 51.0, 201.0, 501.0, 1001.0, 2001.0, 4001.0]


def halfspace(size, seed=3):
    """A linear model of two classes, grey images, and their exact distances."""
    generator = np.random.default_rng(seed)
    weights = generator.normal(0, 1, (size, size))
    # Class 0 leads by `lead` on a grey image.
    lead = 0.02 * size * size
    bias = [lead - 0.5 * weights.sum(), 0.0]
    net = linear_net([weights.ravel(), 0 * weights.ravel()], bias, (size, size, 1))
    exact = {"linf": lead / np.abs(weights).sum(), "l2": lead / np.linalg.norm(weights)}
    # In l1 the heaviest pixels move first, by at most 0.5 each.
    gains = np.sort(np.abs(weights).ravel())[::-1]
    before = 0.5 * np.cumsum(gains) - 0.5 * gains
    whole = np.flatnonzero(before <= lead)[-1]
    exact["l1"] = 0.5 * whole + (lead - before[whole]) / gains[whole]
    return net, np.full((4, size, size, 1), 0.5, "float32"), exact


def correct(net, images, labels):
    return np.argmax(net(images), axis=-1) == labels


def crafted(attack, net, images, labels):
    """What one call gives inside a graph, where nothing leaves on its way."""
    craft = functools.partial(attack, net, seed=0)
    return tf.function(craft, autograph=False)(images, labels)


class Counted:
    """A model that counts its passes in eager mode."""

    def __init__(self, net):
        self.net = net
        self.passes = 0

    def __call__(self, images):
        self.passes += 1
        return self.net(images)


class TestSquare:
    @pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
    @pytest.mark.parametrize("size", [2, 8])
    def test_never_succeeds_before_the_exact_distance(self, norm, size):
        net, images, exact = halfspace(size)
        attack = Square(norm=norm, queries=150)
        # Four pixels are searched out; 64 of white noise are hard for squares, most of
        # all where a single pixel would do.
        small, large = {"linf": (1.01, 3.0), "l2": (2.0, 3.0), "l1": (1.01, 6.0)}[norm]
        far = small if size == 2 else large
        for factor, is_broken in ((0.995, False), (far, True)):
            found = attack.generate(
                net, images, [0] * 4, epsilon=factor * exact[norm], seed=0, verbose=0
            )
            assert inside(found, images, factor * exact[norm], norm)
            assert np.all(correct(net, found, 0) != is_broken)

    @pytest.mark.parametrize(
        ("norm", "epsilon", "most"),
        [("linf", 0.15, 0.3), ("l2", 1.0, 0.3), ("l1", 6.0, 0.3)],
    )
    def test_breaks_a_trained_net(self, norm, epsilon, most, trained_net, digits):
        x, y = digits.x_test[:60], digits.y_test[:60]
        assert correct(trained_net, x, y).mean() > 0.9
        attack = Square(epsilon, norm=norm, queries=300)
        found = attack.generate(trained_net, x, y, seed=0, verbose=0, batch_size=30)
        assert inside(found, x, epsilon, norm)
        assert correct(trained_net, found, y).mean() < most

    def test_more_queries_never_help_the_defender(self, trained_net, digits):
        x, y = digits.x_test[:40], digits.y_test[:40]
        left = []
        for queries in (55, 80, 200):
            found = crafted(Square(0.12, queries=queries), trained_net, x, y)
            left.append(correct(trained_net, found, y))
        assert np.all(left[1] <= left[0])
        assert np.all(left[2] <= left[1])
        assert left[2].sum() < left[0].sum()

    def test_restarts_never_help_the_defender(self, trained_net, digits):
        x, y = digits.x_test[:40], digits.y_test[:40]
        left = []
        for restarts in (1, 3):
            attack = Square(0.1, queries=12, restarts=restarts)
            left.append(correct(trained_net, crafted(attack, trained_net, x, y), y))
        assert np.all(left[1] <= left[0])
        assert left[1].sum() < left[0].sum()

    def test_reaches_targets(self, trained_net, digits):
        x = digits.x_test[:30]
        targets = (digits.y_test[:30] + 1) % 3
        attack = Square(0.3, queries=200, targeted=True)
        found = attack.generate(
            trained_net, x, target_labels=targets, seed=0, verbose=0
        )
        assert correct(trained_net, found, targets).mean() > 0.6
        assert correct(trained_net, x, targets).mean() < 0.1

    def test_needs_a_pass_for_a_query_for_the_start_and_for_the_clean_images(self):
        net, images, _ = halfspace(4)
        model = Counted(net)
        Square(1e-3, queries=7)(model, images, [0] * 4, seed=0)
        assert model.passes == 9

    def test_stops_when_all_images_are_broken(self, images):
        model = Counted(lambda x: tf.tile([[0.0, 2.0]], [len(x), 1]))
        Square(0.1, queries=10**6)(model, images, [0] * 6, seed=0)
        assert model.passes == 2

    # In l2, the contract's whole case compiles it.
    @pytest.mark.parametrize(
        "norm", ["linf", pytest.param("l2", marks=pytest.mark.nightly)]
    )
    def test_loops_within_loops_compile(self, norm, trained_net, digits):
        x, y = map(tf.constant, (digits.x_test[:40], digits.y_test[:40]))
        epsilon = {"linf": 0.15, "l2": 1.0}[norm]
        attack = Square(epsilon, norm=norm, queries=120)

        craft = functools.partial(attack, trained_net, seed=0)
        plain, fused = (mode(x, y) for mode in graph_and_xla(craft, x, y))
        # Rounding may decide between two points that are equally good.
        equal = np.all(np.abs(plain - fused) < 1e-5, axis=(1, 2, 3))
        assert equal.mean() >= 0.9

    def test_broken_images_leave_generate(self, images):
        def model(x):
            return tf.tile([[0.0, 2.0]], [tf.shape(x)[0], 1])

        # A million queries of each would take hours.
        attack = Square(0.1, queries=10**6)
        found = attack.generate(model, images, [0] * 6, batch_size=2, verbose=0)
        assert found.shape == images.shape

    def test_does_not_depend_on_other_images(self, trained_net, digits):
        x, y = digits.x_test[:6], digits.y_test[:6]
        attack = Square(0.1, queries=30)
        one = attack(trained_net, x, y, seed=0)
        others = x.copy()
        others[1:] = digits.x_test[10:15]
        y = np.concatenate([y[:1], digits.y_test[10:15]])
        two = attack(trained_net, others, y, seed=0)
        np.testing.assert_allclose(one[0], two[0], atol=1e-6)

    @pytest.mark.parametrize("labels", [[0] * 3, [1] * 3])
    def test_survives_a_model_without_any_slope(self, labels):
        def model(x):
            return tf.zeros((tf.shape(x)[0], 2))

        x = np.stack([np.zeros((4, 4, 1)), np.ones((4, 4, 1)), np.eye(4)[..., None]])
        for norm in ("linf", "l2", "l1"):
            attack = Square(0.2, norm=norm, queries=20)
            found = attack(model, x.astype("float32"), labels, seed=0)
            assert inside(found, x, 0.2, norm)

    @pytest.mark.parametrize(("argument", "value"), [("queries", 0), ("norm", "l0")])
    def test_rejects(self, argument, value):
        with pytest.raises(ValueError, match=f"`Square` expects `{argument}` to be"):
            Square(0.1, **{argument: value})

    def test_names_itself_after_its_queries(self):
        assert str(Square(0.3)) == "Square-5000"


class TestState:
    """One move, seen from inside."""

    @pytest.fixture
    def parts(self, net, images, labels):
        attack = Square(0.1, queries=100)
        logits_fn = LogitsFunction(net)
        labels = tf.argmax(net(images), axis=-1)
        state = attack.start(
            logits_fn, tf.constant(images), labels, 1e-3, make_key(0), tf.constant(0)
        )
        return attack, logits_fn, state

    def step(self, attack, logits_fn, state, taken=0.0):
        taken = tf.constant(taken, tf.float32)
        return attack.step(logits_fn, state, 1e-3, make_key(1), taken)

    def test_loss_is_the_margin_of_the_best_point(self, parts, net):
        attack, logits_fn, state = parts
        for _ in range(2):
            logits = np.sort(net(state["best"]), axis=-1)
            expected = logits[:, -2] - logits[:, -1]
            np.testing.assert_allclose(state["best_loss"], expected, atol=1e-6)
            state = self.step(attack, logits_fn, state)

    def test_only_a_rise_is_kept(self, parts):
        attack, logits_fn, state = parts
        low = tf.constant([LOWEST, np.inf] * 3, tf.float32)
        state = {**state, "best": state["images"], "loss": low}
        moved = self.step(attack, logits_fn, state)
        changed = np.any(moved["best"] != state["best"], axis=(1, 2, 3))
        assert changed.tolist() == [True, False] * 3
        np.testing.assert_array_equal(moved["loss"][1::2], low[1::2])
        assert np.all(moved["loss"][::2] > LOWEST)

    def test_broken_images_stand_still(self, parts):
        attack, logits_fn, state = parts
        broken = tf.constant([True, False] * 3)
        low = tf.fill([6], tf.float32.min)
        state = {**state, "best": state["images"], "broken": broken, "loss": low}
        moved = self.step(attack, logits_fn, state)
        changed = np.any(moved["best"] != state["best"], axis=(1, 2, 3))
        assert changed.tolist() == [False, True] * 3

    def test_a_success_that_is_taken_back_goes_on_from_its_loss(self, parts):
        # `run_slots` then sets "broken" and "best_loss" back; a worse point must not
        # be taken for better.
        attack, logits_fn, state = parts
        state = {**state, "best_loss": tf.fill([6], tf.float32.min)}
        state = {**state, "loss": tf.fill([6], np.float32(np.inf))}
        moved = self.step(attack, logits_fn, state)
        np.testing.assert_array_equal(moved["best"], state["best"])

    def test_rows_count_for_themselves(self, parts):
        attack, logits_fn, state = parts
        state = {**state, "loss": tf.fill([6], tf.float32.min)}
        taken = [0.0, 0.0, 0.0, 5000.0, 5000.0, 5000.0]
        moved = self.step(attack, logits_fn, {**state, "best": state["images"]}, taken)
        changed = np.sum(moved["best"] != state["images"], axis=(1, 2, 3))
        # Sides 7 and 1 of 8.
        assert changed.tolist() == [49] * 3 + [1] * 3

    def test_rows_out_of_queries_stand_still(self, parts):
        attack, logits_fn, state = parts
        step = tf.constant([0.0, 40.0, 99.0, 100.0, 150.0, 0.0])
        state = {**state, "loss": tf.fill([6], tf.float32.min), "step": step}
        moved = attack.repeat(logits_fn, state, tf.constant(1e-3), make_key(1), 50)
        changed = np.any(moved["best"] != state["best"], axis=(1, 2, 3))
        assert changed.tolist() == [True, True, True, False, False, True]


class TestPrecision:
    def test_bfloat16_finds_images_that_are_wrong_in_float32(self, trained_net, digits):
        x, y = digits.x_test[:60], digits.y_test[:60]
        left = {}
        for precision in ("float32", "bfloat16"):
            attack = Square(0.1, queries=150, precision=precision)
            found = attack.generate(trained_net, x, y, seed=0, verbose=0)
            left[precision] = correct(trained_net, found, y).mean()
        assert left["bfloat16"] <= left["float32"] + 0.1

    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    def test_a_success_in_bfloat16_is_climbed_on(self, precision, trained_net, digits):
        # It may be none in float32, and in a graph nobody looks before the end.
        x, y = tf.constant(digits.x_test[:20]), tf.constant(digits.y_test[:20])
        attack = Square(0.2, queries=60, precision=precision)
        logits_fn = attack.logits_function(trained_net)
        state = attack.init_state(logits_fn, x, y, 0.2, make_key(0), tf.constant(0))
        early = attack.repeat(logits_fn, state, 0.2, make_key(0), 5)
        late = attack.repeat(logits_fn, early, 0.2, make_key(1), 40)
        rise = (late["loss"] - early["loss"])[early["broken"]].numpy()
        assert rise.size
        assert rise.min() >= 0
        assert (rise.max() > 0) == (precision == "bfloat16")


def test_a_random_model_is_searched_with_fresh_draws(trained_net, digits):
    from keras_advdef.layers import RandomNoise

    noisy = keras.Sequential([keras.Input((8, 8, 1)), RandomNoise(0.02), trained_net])
    x, y = digits.x_test[:20], digits.y_test[:20]
    attack = Square(0.2, queries=120)
    before = noisy.layers[0].random_state.numpy()
    found = attack.generate(noisy, x, y, seed=0, verbose=0)
    np.testing.assert_array_equal(noisy.layers[0].random_state, before)
    assert correct(noisy, found, y).mean() < 0.5


def grey(count=1, size=8, channels=1):
    return tf.fill((count, size, size, channels), 0.5)


def propose(propose_one, start, images, epsilon, *, rounds=5, taken=FIRST):
    """The points that come one after the other if every proposal is taken."""
    points = [start(make_key(5), images, epsilon)]
    for index in range(rounds):
        key = fold_in(make_key(6), index)
        point = propose_one(key, images, points[-1], epsilon=epsilon, taken=taken)
        points.append(point)
    return [point.numpy() for point in points]


class TestSideLength:
    @pytest.mark.parametrize(
        ("size", "sides"),
        [(28, [25, 18, 13, 9, 6, 4, 3, 2]), (32, [29, 20, 14, 10, 7, 5, 4, 3])],
    )
    def test_is_that_of_autoattack(self, size, sides):
        starts, before = tf.constant(STARTS), tf.constant(STARTS[1:]) - 1.0
        reached = side_length(float(size), float(size), starts, "linf")
        assert reached.numpy().ravel().tolist() == sides
        reached = side_length(float(size), float(size), before, "linf")
        assert reached.numpy().ravel().tolist() == sides[:-1]

    def test_is_odd_and_at_least_three_in_l2(self):
        # As above, made odd: 25, 18 + 1, 13, 9, 6 + 1, 4 + 1, 3, 3 (from 2).
        found = side_length(28.0, 28.0, tf.constant(STARTS), "l2").numpy().ravel()
        assert found.tolist() == [25, 19, 13, 9, 7, 5, 3, 3]

    @pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
    @pytest.mark.parametrize("shape", [(1, 1), (2, 1), (4, 4), (3, 40)])
    def test_fits_into_the_image(self, norm, shape):
        sides = side_length(*map(float, shape), tf.constant(STARTS), norm).numpy()
        assert 1 <= sides.min() <= sides.max() <= min(shape)


class TestStripes:
    def test_move_columns_and_channels_to_the_edge_of_the_ball(self):
        images = np.full((40, 8, 8, 3), 0.1, "float32")
        moved = stripes(make_key(0), tf.constant(images), tf.constant(0.25)).numpy()
        np.testing.assert_array_equal(moved, moved[:, :1].repeat(8, axis=1))
        np.testing.assert_allclose(np.unique(moved), [0.0, 0.35], atol=1e-6)
        # 960 coins: four standard deviations are 0.065.
        assert abs(np.mean(moved[:, 0] > 0.1) - 0.5) < 0.065


class TestRecoloredSquare:
    def test_is_a_square_of_one_colour_at_the_edge_of_the_ball(self):
        images = grey(30, size=10, channels=2)
        moved = recolored_square(
            make_key(1), images, images, epsilon=tf.constant(0.25), taken=FIRST + 51.0
        ).numpy()
        for image in moved:
            rows, cols = np.nonzero(np.any(image != 0.5, axis=-1))
            # sqrt(.8 / 4 * 100) = 4.47
            assert np.ptp(rows) + 1 == np.ptp(cols) + 1 == 4
            assert len(rows) == 16
            colours = image[rows, cols]
            np.testing.assert_array_equal(colours, colours[:1].repeat(16, axis=0))
            assert np.all(np.isin(colours, [0.25, 0.75]))

    def test_comes_everywhere_the_last_row_and_column_included(self):
        # Side 7 of 8 leaves two places on each axis, so four of them.
        images = grey(1000)
        moved = recolored_square(
            make_key(2), images, images, epsilon=tf.constant(0.25), taken=FIRST
        ).numpy()[..., 0]
        corner = (moved[:, 0] == 0.5).all(axis=1) * 2 + (moved[:, :, 0] == 0.5).all(1)
        counts = np.bincount(corner, minlength=4)
        # Four standard deviations of a binomial with p = 1/4 are 55.
        assert np.all(np.abs(counts - 250) < 55)

    def test_takes_colours_for_each_image_and_channel(self):
        images = grey(1000, channels=2)
        moved = recolored_square(
            make_key(3), images, images, epsilon=tf.constant(0.25), taken=FIRST
        ).numpy()
        up = moved[:, 4, 4] > 0.5
        counts = np.bincount(2 * up[:, 0] + up[:, 1], minlength=4)
        assert np.all(np.abs(counts - 250) < 55)

    def test_counts_for_each_image(self):
        images = grey(2, size=28)
        taken = tf.constant([0.0, 2001.0])
        moved = recolored_square(
            make_key(4), images, images, epsilon=tf.constant(0.25), taken=taken
        )
        changed = np.sum(moved.numpy() != 0.5, axis=(1, 2, 3))
        assert changed.tolist() == [25**2, 3**2]

    def test_takes_an_epsilon_for_each_image(self):
        images, epsilon = grey(2), tf.constant([0.1, 0.2])
        points = propose(recolored_square, stripes, images, epsilon)
        far = distance(points[-1], images, "linf")
        np.testing.assert_allclose(far, [0.1, 0.2], atol=1e-6)

    def test_stays_in_ball_and_box(self, images):
        corners = tf.constant(np.concatenate([images[:3].round(), images[3:]]))
        for point in propose(recolored_square, stripes, corners, tf.constant(0.2)):
            assert inside(point, corners, 0.2, "linf")
            assert point.min() >= 0
            assert point.max() <= 1


class TestTiles:
    @pytest.mark.parametrize("size", [5, 8, 28, 32])
    @pytest.mark.parametrize(("norm", "power"), [("l2", 2), ("l1", 1)])
    def test_share_the_norm_among_the_tiles(self, norm, power, size):
        start = tiles(make_key(0), grey(3, size=size), tf.constant(0.3), norm=norm)
        moved = np.abs(start.numpy() - 0.5) ** power
        side = size // 5
        count = size // side
        start = (size - side * count) // 2
        kept = moved[:, start:, start:][:, : side * count, : side * count]
        mass = np.sum(kept.reshape(3, count, side, count, side), axis=(2, 4))
        np.testing.assert_allclose(mass, 0.3**power / count**2, rtol=2e-3)
        total = np.sum(moved, axis=(1, 2, 3))
        np.testing.assert_allclose(total, 0.3**power, rtol=1e-4)

    def test_differ_in_sign_and_direction(self):
        moved = tiles(make_key(0), grey(40, size=15, channels=2), tf.constant(0.3))
        blocks = (moved.numpy() - 0.5).reshape(40, 5, 3, 5, 3, 2)
        corners = blocks.transpose(0, 1, 3, 5, 2, 4).reshape(-1, 9)
        # Signs of the corners of an upright patch: + + - -, turned: + - + -.
        kinds = {tuple(each) for each in np.sign(corners[:, [0, 2, 6, 8]])}
        upright, turned = (1, 1, -1, -1), (1, -1, 1, -1)
        negative = {tuple(-np.array(each)) for each in (upright, turned)}
        assert kinds == {upright, turned, *negative}


def moved(norm, images, epsilon, **how):
    """The points of `propose` for the steps of a norm."""
    step, start = (functools.partial(each, norm=norm) for each in (moved_mass, tiles))
    return propose(step, start, images, tf.constant(epsilon), **how)


@pytest.mark.parametrize("norm", ["l2", "l1"])
class TestMovedMass:
    @pytest.mark.parametrize("size", [3, 4, 8, 28])
    @pytest.mark.parametrize("taken", [0.0, 51.0])
    def test_keeps_the_norm_where_the_box_is_far(self, norm, size, taken):
        images = grey(4, size=size, channels=3)
        taken = tf.constant(taken)
        points = moved(norm, images, 0.3, taken=taken)
        for point in points:
            np.testing.assert_allclose(distance(point, images, norm), 0.3, rtol=1e-4)
        assert all(np.any(a != b) for a, b in itertools.pairwise(points))

    def test_stays_in_ball_and_box(self, norm, images):
        corners = tf.constant(np.concatenate([images[:3].round(), images[3:]]))
        for point in moved(norm, corners, 1.5):
            assert np.isfinite(point).all()
            assert inside(point, corners, 1.5, norm)
            assert point.min() >= 0
            assert point.max() <= 1

    def test_leaves_the_rest_as_it_was(self, norm):
        # Sides of 3 in 28: two windows change at most 18 pixels, one of them to zero.
        images, taken = grey(20, size=28), tf.constant(4001.0)
        first, second = moved(norm, images, 0.3, rounds=1, taken=taken)
        changed = np.abs(second - first).max(axis=-1) > 1e-6
        assert np.all(changed.sum(axis=(1, 2)) <= 18)
        assert np.all(changed.sum(axis=(1, 2)) >= 9)
        emptied = changed & (second[..., 0] == 0.5) & (first[..., 0] != 0.5)
        assert np.mean(emptied.sum(axis=(1, 2))) > 6

    def test_counts_for_each_image(self, norm):
        images, taken = grey(2, size=28), tf.constant([0.0, 4e3])
        first, second = moved(norm, images, 3.0, rounds=1, taken=taken)
        changed = np.sum(np.abs(second - first) > 1e-6, axis=(1, 2, 3))
        assert changed[0] >= 400
        assert changed[1] <= 18

    @pytest.mark.parametrize("size", [1, 2])
    def test_stays_in_the_ball_where_no_patch_fits(self, norm, size):
        images = grey(20, size=size)
        for point in moved(norm, images, 0.3):
            assert np.isfinite(point).all()
            assert inside(point, images, 0.3, norm)

    def test_of_nothing_is_nothing(self, norm):
        for point in moved(norm, grey(2), 0.0):
            np.testing.assert_array_equal(point, grey(2))


def test_in_l1_what_the_box_cuts_off_goes_to_the_rest():
    # All pixels are black or white: half of every patch leads out of the range.
    generator = np.random.default_rng(0)
    images = tf.constant(generator.integers(0, 2, (8, 28, 28, 1)), tf.float32)
    late = {"taken": tf.constant(500.0), "rounds": 20}
    left = {norm: moved(norm, images, 3.0, **late) for norm in ("l1", "l2")}
    for norm, least in (("l1", 0.8), ("l2", 0.0)):
        reached = np.min([distance(each, images, norm) for each in left[norm]])
        assert least * 3.0 < reached < 3.0 + 1e-4
    assert np.min([distance(each, images, "l2") for each in left["l2"]]) < 0.8 * 3.0


@pytest.mark.parametrize("one", [recolored_square, moved_mass])
def test_runs_wholly_on_a_gpu(one):
    def proposed(key, images, taken):
        return one(key, images, images, epsilon=0.3, taken=taken)

    count = tf.zeros(3)
    assert missing_kernels(proposed, make_key(0), grey(3, size=16), count) == {}
