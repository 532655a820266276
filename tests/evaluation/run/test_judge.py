import numpy as np
import pytest

from keras_advdef.core.value_range import ValueRange
from keras_advdef.evaluation._run.judge import Judge
from keras_advdef.layers import RandomNoise
from tests.support.nets import linear_net, small_net


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

    def test_nan_is_no_right_answer_and_not_noticed(self):
        logits = np.zeros((2, 3))
        logits[:, 0] = np.nan
        judge = judge_of(lambda images: images)
        # `argmax` alone would say 0, which is right.
        assert judge.fooled(logits, np.array([0, 1])).tolist() == [True, True]
        judge = judge.rejecting(0)
        assert judge.fooled(logits, np.array([0, 1])).tolist() == [True, True]

    def test_look_names_no_class_for_nan(self):
        broken = linear_net([[np.nan, 0.0], [0.0, 1.0]], [0.0, 0.0])
        counts, predicted = judge_of(broken).evaluate(
            np.zeros((1, 2, 1, 1)), np.array([0]), draws=2, seed=0
        )
        assert (counts.tolist(), predicted.tolist()) == ([2], [-1])
