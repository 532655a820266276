import numpy as np
import pytest
import tensorflow as tf

from keras_advdef.attacks import FGSM, PGD, Attack, LatentSpaceAttack
from keras_advdef.core.model_view import ModelView
from keras_advdef.evaluation._plan.stage import Stage
from keras_advdef.evaluation._run.runner import measure_clean
from keras_advdef.layers import RandomNoise
from keras_advdef.models import DefenseGAN
from tests.support.generators import small_generator
from tests.support.nets import linear_net, small_net

# Class 1 where the first pixel is above the second.
NET = linear_net([[0.0, 0.0], [1.0, -1.0]], [0.0, 0.0])
IMAGES = np.array([[0.6, 0.5], [0.9, 0.2], [0.7, 0.4], [0.2, 0.8]], "float32")
LABELS = np.array([1, 1, 1, 1])


class Outside(Attack):
    """Leaves the ball, which `Attack` would not let it do in `perturb`."""

    def __init__(self, epsilon=None, value_range=(0.0, 1.0)):
        super().__init__(
            epsilon,
            norm="linf",
            value_range=value_range,
            targeted=False,
            training=False,
        )

    def generate(self, model, images, labels=None, **options):
        del model, labels, options
        return 1.0 - images


@pytest.fixture
def runner_of(make_request, make_runner):
    """Makes a runner for four images in batches of two, but for some changes."""

    def make(model=NET, *, is_random=False, **changes):
        images = IMAGES.reshape(4, 2, 1, 1)
        defaults = {"images": images, "labels": LABELS, "epsilon": 0.2, "batch_size": 2}
        request = make_request(model=model, **{**defaults, **changes})
        return make_runner(request, is_random=is_random)

    return make


def stage(attack, **changes):
    values = {"key": "a", "label": "a", "role": "adaptive", "view": ModelView(NET)}
    return Stage(**{**values, "attack": attack, **changes})


def off_the_images(noise):
    """The net, but on other images than the four with random logits."""

    def net(images):
        flat = tf.reshape(images, [-1, 2])
        gaps = tf.reduce_max(tf.abs(flat[:, None] - IMAGES[None]), axis=2)
        is_off = tf.cast(tf.reduce_min(gaps, axis=1) > 1e-6, tf.float32)
        drawn = is_off * tf.random.uniform(tf.shape(is_off), -noise, noise)
        return NET(images) + tf.stack([tf.zeros_like(drawn), drawn], axis=1)

    return net


class TestRunner:
    def test_breaks_what_lies_within_reach(self, runner_of):
        # The margins 0.1, 0.7, 0.3 fall by at most 2 * 0.2; the last image is wrong.
        runner = runner_of()
        assert runner.unbroken.tolist() == [0, 1, 2]
        found = runner.run(stage(PGD(0.2)), runner.unbroken)
        assert found["wrong"].tolist() == [1, 0, 1]
        assert found["predicted"].tolist() == [0, 1, 0]
        assert runner.unbroken.tolist() == [1]
        assert runner.evaluate_worst("all").tolist() == [[True, False, True, True]]

    @pytest.mark.parametrize("role", ["curve", "trial"])
    def test_stage_may_have_another_epsilon_and_leave_no_mark(self, role, runner_of):
        runner = runner_of()
        wide = stage(FGSM(0.2), role=role, epsilon=0.4)
        assert runner.run(wide, np.arange(3))["wrong"].tolist() == [1, 1, 1]
        assert runner.unbroken.tolist() == [0, 1, 2]

    def test_what_breaks_at_a_smaller_epsilon_is_broken(self, runner_of):
        runner = runner_of()
        runner.run(stage(FGSM(0.2), role="curve", epsilon=0.1), np.arange(3))
        assert runner.unbroken.tolist() == [1, 2]

    def test_what_leaves_the_ball_does_not_count(self, runner_of):
        runner = runner_of()
        outside = stage(Outside(0.2), stop_early=False)
        rows = np.array([1, 2])
        assert runner.run(outside, rows)["wrong"].tolist() == [0, 0]

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_nan_is_no_success_and_is_counted(self, runner_of, value):
        def model(images):
            # Off the clean images, of which each has a pixel of 0.5.
            is_clean = tf.reduce_any(images == 0.5, axis=[1, 2, 3])
            return tf.where(is_clean[:, None], NET(images), value)

        images = np.where([True, False], IMAGES, np.float32(0.5))
        runner = runner_of(model, images=images.reshape(4, 2, 1, 1))
        rows = np.array([0, 1])
        before = runner.wrong.copy()
        found = runner.run(stage(PGD(0.2), view=ModelView(model)), rows)
        assert found["wrong"].tolist() == before[:2].tolist()
        assert (runner.wrong == before).all()
        assert runner.undecided.tolist() == [True, True, False, False]

    def test_what_has_no_answer_is_judged_as_8_bit_images(self, runner_of):
        def model(images):
            levels = 255.0 * images
            is_off = tf.reduce_any(abs(levels - tf.round(levels)) > 1e-3, [1, 2, 3])
            return tf.where(is_off[:, None], np.nan, NET(images))

        images = (np.rint(255 * IMAGES) / 255).astype("float32").reshape(4, 2, 1, 1)
        runner = runner_of(model, images=images, epsilon=0.15)
        # The attack that knows the net inside.
        found = runner.run(stage(FGSM(0.15), epsilon=0.15), np.array([0, 1]))
        assert found["wrong"].tolist() == [1, 0]
        assert runner.undecided.tolist() == [True, True, False, False]
        levels = 255 * runner.worst[0].ravel()
        np.testing.assert_allclose(levels, [153 - 38, 128 + 38], atol=1e-3)

    def test_images_alone(self, runner_of):
        def model(images):
            # No image of a larger batch gets another answer than class 1.
            is_alone = tf.shape(images)[0] == 1
            return tf.where(is_alone, NET(images), [[0.0, 1.0]])

        rows = np.array([0, 1])
        for alone, wrong in ((False, [0, 0]), (True, [1, 0])):
            runner = runner_of(model)
            attack = stage(PGD(0.2, steps=5), view=ModelView(model), alone=alone)
            assert runner.run(attack, rows)["wrong"].tolist() == wrong
            assert runner.wrong[:2].tolist() == wrong

    def test_targets_are_the_likeliest_wrong_classes(self, runner_of):
        net = linear_net([[0.0, 0.0], [1.0, -1.0], [0.5, -0.5]], [0.0, 0.0, 0.0])
        runner = runner_of(net)
        attack = PGD(0.2, targeted=True)
        aimed = stage(attack, target_rank=2, view=ModelView(net))
        found = runner.run(aimed, np.array([0]))
        assert found["predicted"].tolist() == [0]

    def test_no_rows_are_no_work(self, runner_of):
        found = runner_of().run(stage(PGD(0.2)), np.arange(0))
        assert found["wrong"].tolist() == []

    def test_blocks_change_nothing(self, runner_of):
        several = runner_of().run(stage(FGSM(0.2)), np.arange(3))
        one = runner_of(batch_size=8).run(stage(FGSM(0.2)), np.arange(3))
        assert several["wrong"].tolist() == one["wrong"].tolist()

    def test_takes_back_what_was_noticed(self, runner_of):
        runner = runner_of()
        runner.run(stage(PGD(0.2)), runner.unbroken)
        other = runner.rejecting(0, np.array([0, 3]))
        assert other.wrong.tolist() == [0, 0, 1, 1]
        # From now on class 0 fools nobody.
        assert other.run(stage(PGD(0.2)), np.arange(3))["wrong"].tolist() == [0, 0, 0]
        assert runner.wrong.tolist() == [1, 0, 1, 1]
        assert runner.judge.rejected is None

    def test_images_taken_back_are_clean_again(self, runner_of):
        runner = runner_of()
        runner.run(stage(PGD(0.2)), runner.unbroken)
        clean = IMAGES.reshape(4, 2, 1, 1)
        assert (runner.worst != clean).any(axis=(1, 2, 3)).tolist() == [1, 0, 1, 0]
        other = runner.rejecting(0, np.array([0]))
        assert (other.worst != clean).any(axis=(1, 2, 3)).tolist() == [0, 0, 1, 0]

    def test_randomness_off_the_clean_images_is_noticed(self, runner_of):
        # Under attack the margins are -0.3, 0.3, -0.1 and -1.0.
        runner = runner_of(off_the_images(0.2))
        assert runner.draws == 1
        runner.run(stage(FGSM(0.2), view=ModelView(NET)), np.arange(4))
        judged = runner.evaluate_worst("naive")
        assert judged.shape == (10, 4)
        assert judged.all(axis=0)[[0, 3]].all()
        assert not judged[:, 1].any()

    def test_no_randomness_is_not_noticed(self, runner_of):
        runner = runner_of(off_the_images(0.0))
        runner.run(stage(FGSM(0.2), view=ModelView(NET)), np.arange(4))
        assert runner.evaluate_worst("all").tolist() == [[True, False, True, True]]

    def test_goes_on_with_several_draws(self, runner_of):
        runner = runner_of(off_the_images(0.2))
        runner.run(stage(FGSM(0.2), view=ModelView(NET)), np.arange(4))
        clean = measure_clean(
            runner._request,
            runner._labels,
            runner.judge,
            ledger=runner._ledger,
            is_random=True,
        )
        assert clean.wrong.tolist() == [0, 0, 0, 10]
        drawn = runner.redrawn(clean, lambda so_far: {})
        assert drawn.draws == 10
        assert drawn.wrong[[0, 1, 3]].tolist() == [10, 0, 10]
        moved = (drawn.worst != IMAGES.reshape(4, 2, 1, 1)).any(axis=(1, 2, 3))
        assert moved.tolist() == (drawn.wrong > clean.wrong).tolist()

    def test_images_found_otherwise_count(self, runner_of):
        runner = runner_of()
        images = IMAGES.reshape(4, 2, 1, 1).copy()
        images[0] = [[[0.5]], [[0.6]]]
        images[1] = [[[0.0]], [[1.0]]]
        runner.take(np.array([0, 1, 2]), images[:3], "near")
        # The second lies outside the ball, and the third is clean.
        assert runner.wrong.tolist() == [1, 0, 0, 1]
        np.testing.assert_array_equal(runner.worst[0], images[0])
        runner.take(np.arange(0), images[:0], "none")

    def test_number_of_draws(self, runner_of):
        runner = runner_of(is_random=True, judgements=3)
        assert runner.draws == 3
        assert runner.evaluate_worst("all").shape == (3, 4)

    def test_random_model_keeps_the_worst_images(self, runner_of):
        net = small_net(front=[RandomNoise(0.3, seed=0)])
        generator = np.random.default_rng(0)
        images = generator.uniform(size=(4, 8, 8, 1)).astype("float32")
        runner = runner_of(net, images=images, is_random=True)
        before = runner.wrong.copy()
        noisy = stage(PGD(0.2, steps=5), view=ModelView(net, is_random=True))
        found = runner.run(noisy, np.arange(4))["wrong"]
        assert (runner.wrong == np.maximum(before, found)).all()
        worse = found > before
        assert (runner.worst != images).any(axis=(1, 2, 3)).tolist() == worse.tolist()
        settled = runner.evaluate_worst("all")
        assert settled.shape == (10, 4)
        # Every look has the same draws, none of them those that chose the images.
        np.testing.assert_array_equal(runner.evaluate_worst("naive"), settled)

    def test_searches_of_a_latent_space_are_attacked_from_there(self, runner_of):
        generator = small_generator((2, 1, 1), latent_dim=2)
        model = DefenseGAN(generator, NET, steps=2, restarts=1, seed=0)
        runner = runner_of(model, is_random=True)
        attack = LatentSpaceAttack(0.4, steps=2, restarts=1)
        before = runner.wrong.copy()
        found = runner.run(stage(attack, view=ModelView(model, is_random=True)), [0, 1])
        assert (found["wrong"] <= 10).all()
        np.testing.assert_array_equal(
            runner.wrong[:2], np.maximum(before[:2], found["wrong"])
        )
        assert np.abs(runner.worst - IMAGES.reshape(4, 2, 1, 1)).max() <= 0.4 + 1e-6

    def test_tells_what_is_left(self, runner_of):
        told = []
        runner = runner_of()
        runner._progress.update = lambda attack, **facts: told.append(facts["left"])
        runner.run(stage(FGSM(0.2), stop_early=False), np.arange(3))
        assert told == [3, 1]


def test_labels_must_fit(runner_of):
    with pytest.raises(ValueError, match="as many as the images"):
        runner_of(labels=[1, 1])


def test_clean_images_without_a_finite_answer_are_named(runner_of):
    def net(images):
        # Pixels below a quarter have no finite logarithm here.
        return tf.math.log(images[:, :, 0, 0] - 0.25)

    with pytest.raises(ValueError, match="`model` to be a model with finite logits"):
        runner_of(net)
