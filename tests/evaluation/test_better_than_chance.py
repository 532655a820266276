import numpy as np
import pytest

from keras_advdef.evaluation.better_than_chance import better_than_chance, is_at_chance
from keras_advdef.evaluation.check import Check

GENERATOR = np.random.default_rng(0)


def check(predicted, labels):
    return better_than_chance(np.asarray(predicted), np.asarray(labels))


class TestBetterThanChance:
    def test_good_models_pass(self):
        labels = np.arange(200) % 10
        wrong = np.where(np.arange(200) % 4 == 0, (labels + 1) % 10, labels)
        assert check(labels, labels).passed
        assert check(wrong, labels).passed
        assert check(wrong, labels).detail.startswith("150 of 200 clean images are ")

    def test_few_images_that_are_right_are_enough(self):
        assert check([0, 1, 2], [0, 1, 2]).passed
        assert check([0, 1], [0, 1]).passed

    def test_guesses_fail(self):
        labels = np.arange(500) % 10
        found = [check(GENERATOR.permutation(labels), labels).passed for _ in range(40)]
        # One in forty passes by luck.
        assert sum(found) <= 3

    @pytest.mark.parametrize("answer", [0, 1, 7])
    def test_constant_answer_fails_however_frequent_its_class(self, answer):
        labels = np.array([0] * 95 + [1] * 5)
        found = check(np.full(100, answer), labels)
        assert found.passed is False
        # The detail does not repeat the reason.
        right = (labels == answer).sum()
        assert found.detail == (
            f"{right} of 100 clean images are classified correctly; shuffled "
            f"predictions would get {right}.0 on average."
        )
        assert found.reason == (
            f"the model is at chance, predicting class {answer} for every image: wrong "
            "`value_range`, wrong labels, or not trained?"
        )

    def test_rare_classes_that_are_found_pass(self):
        # Always predicting 0 would be right as often as this model.
        labels = np.array([0] * 190 + [1] * 10)
        predicted = np.array([1] * 5 + [0] * 185 + [1] * 5 + [0] * 5)
        assert check(predicted, labels).passed

    def test_labels_that_are_all_off_by_one_fail(self):
        labels = np.arange(100) % 10
        assert check((labels + 1) % 10, labels).passed is False

    def test_classes_beyond_the_labels(self):
        assert check(np.full(20, 9), np.arange(20) % 3).passed is False

    def test_one_class_tells_nothing(self):
        found = check([3, 3, 3], [3, 3, 3])
        assert found.passed is None
        assert found.detail == "Not run: all images belong to one class."

    @pytest.mark.parametrize(
        ("predicted", "labels"), [([0, 1], [0, 1, 1]), ([], []), ([[0]], [[0]])]
    )
    def test_predictions_must_fit_the_labels(self, predicted, labels):
        with pytest.raises(ValueError, match="`predicted` to be one class for each"):
            better_than_chance(predicted, labels)


def test_is_at_chance():
    failed = check(np.zeros(100, int), np.arange(100) % 10)
    other = Check(name="any", passed=False, detail="What.", reason="why")
    assert is_at_chance([other, failed])
    assert not is_at_chance([other, check([0, 1, 2], [0, 1, 2])])
