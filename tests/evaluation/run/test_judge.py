import numpy as np
import pytest

from keras_advdef.core.value_range import ValueRange
from keras_advdef.evaluation._run.judge import Judge
from keras_advdef.layers import RandomNoise
from tests.support.nets import linear_net, small_net
from tests.support.razors import RANGES, razor


def judge_of(model, **arguments):
    settings = {"value_range": ValueRange(), "batch_size": 4, **arguments}
    return Judge(model, **settings)


class TestJudge:
    @pytest.mark.parametrize("batch_size", [1, 4, 6, 50])
    def test_logits_are_the_model_s(self, batch_size, net, images):
        logits = judge_of(net, batch_size=batch_size).logits(images, 0)
        np.testing.assert_allclose(logits, net(images), atol=1e-5)

    def test_value_range(self, net, images):
        judge = judge_of(net, value_range=ValueRange(-1.0, 1.0))
        np.testing.assert_allclose(judge.logits(images, 0), net(images), atol=1e-5)

    @pytest.mark.parametrize("value_range", RANGES)
    def test_sees_the_very_image(self, value_range):
        model, images = razor(value_range)
        pixels, labels = ValueRange(*value_range), np.zeros(64, int)
        judge = judge_of(model, value_range=pixels, batch_size=64)
        assert judge.wrong(images, labels, draws=1, seed=0).sum() == 0
        moved = np.nextafter(images, np.float32(0.1))
        # Not a denormal, which counts as zero.
        moved = np.where(images == 0.0, np.float32(1e-30), moved)
        assert judge.wrong(moved, labels, draws=1, seed=0).sum() == 64

    def test_draws_follow_the_seed(self, images):
        judge = judge_of(small_net(front=[RandomNoise(0.1)]))
        first, same, other = (judge.logits(images, seed) for seed in (1, 1, 2))
        np.testing.assert_array_equal(first, same)
        assert not np.array_equal(first, other)
        # Two batches of one call differ, too.
        twice = np.concatenate([images[:1]] * 8)
        logits = judge.logits(twice, 1)
        assert not np.array_equal(logits[0], logits[4])

    def test_wrong_counts_draws(self):
        net = linear_net([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0])
        pairs = np.array([[0.9, 0.1], [0.1, 0.9]]).reshape(2, 2, 1, 1)
        labels = np.array([0, 0])
        wrong = judge_of(net).wrong(pairs, labels, draws=3, seed=0)
        assert wrong.tolist() == [0, 3]

    def test_rejected_images_have_not_fooled(self):
        logits = np.eye(3)
        labels = np.array([0, 0, 0])
        judge = judge_of(lambda images: images, rejected=2)
        assert judge.fooled(logits, labels).tolist() == [False, True, False]
        judge = judge_of(lambda images: images)
        assert judge.fooled(logits, labels).tolist() == [False, True, True]
        other = judge.rejecting(2)
        assert other.fooled(logits, labels).tolist() == [False, True, False]
        assert judge.rejected is None

    @pytest.mark.parametrize("row", [[np.nan, 0, 0], [np.inf, 0, 0], [0, 1, np.nan]])
    def test_nan_and_infinity_decide_nothing(self, row):
        logits = np.array([row, [0.0, 1.0, 0.0]], np.float32)
        judge = judge_of(lambda images: images)
        for label in range(3):
            for each in (judge, judge.rejecting(2)):
                labels = np.array([label, label])
                assert each.fooled(logits, labels).tolist() == [False, label != 1]

    def test_an_excluded_class_is_no_infinity(self):
        masked = linear_net([[1.0, 0.0], [0.0, 1.0]], [0.0, -np.inf])
        judged = judge_of(masked).evaluate(
            np.ones((2, 2, 1, 1)), np.array([0, 1]), draws=1, seed=0
        )
        assert judged.wrong.tolist() == [0, 1]
        assert judged.undecided.tolist() == [False, False]

    def test_undecided_images_are_named(self):
        broken = linear_net([[np.nan, 0.0], [0.0, 1.0]], [0.0, 0.0])
        judged = judge_of(broken).evaluate(
            np.zeros((1, 2, 1, 1)), np.array([0]), draws=2, seed=0
        )
        assert [each.tolist() for each in judged] == [[0], [-1], [True]]
