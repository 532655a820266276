import numpy as np
import pytest
from scipy.stats import binom

from keras_advdef.evaluation._verdict.p_values import (
    clear_chance,
    clearly_more,
    overall_or_class,
    share_test,
    sign_test,
    significant,
)


def first(count):
    return np.arange(100) < count


class TestSignTest:
    @pytest.mark.parametrize("strong", range(3))
    def test_binomial_tail(self, strong):
        one, other = first(10 + 5 * strong), first(100) & ~first(95)
        expected = binom.sf(10 + 5 * strong - 1, 15 + 5 * strong, 0.5)
        assert sign_test(one, other) == pytest.approx(expected)

    def test_nothing_to_tell(self):
        assert sign_test(first(5), first(5)) == 1.0


class TestShareTest:
    def test_binomial_tail(self):
        expected = binom.sf(6, 100, 0.02)
        assert share_test(first(7), 0.02) == pytest.approx(expected)

    def test_no_image(self):
        assert share_test(np.zeros(0, bool), 0.02) == 1.0


class TestOverallOrClass:
    LABELS = np.arange(100) % 10

    def test_what_hides_one_class_is_found_there(self):
        flags = self.LABELS == 3
        chance, label = overall_or_class(
            lambda some: share_test(some, 0.1), self.LABELS, flags
        )
        assert label == 3
        # Ten of ten, in one of ten classes or overall.
        assert chance == pytest.approx(2 * 10 * 0.1**10)

    def test_what_is_everywhere_is_found_overall(self):
        chance, label = overall_or_class(
            lambda some: share_test(some, 0.1), self.LABELS, first(40)
        )
        assert label is None
        assert chance == pytest.approx(2 * binom.sf(39, 100, 0.1))

    def test_is_no_more_than_certain(self):
        found = overall_or_class(lambda some: 0.9, self.LABELS, first(1))
        assert found == (1.0, None)


class TestSignificant:
    def test_holm(self):
        # 0.02 is shared by three, then two, then one.
        chances = {"a": 0.006, "b": 0.011, "c": 0.019}
        assert significant(chances) == {"a"}
        assert significant({**chances, "b": 0.009}) == {"a", "b", "c"}
        assert significant({"a": 0.007, "b": 0.0, "c": 0.5}) == {"a", "b"}

    def test_no_check(self):
        assert significant({}) == set()

    def test_honest_models_are_seldom_accused(self):
        rng = np.random.default_rng(0)
        draws = rng.uniform(size=(4000, 9))
        accused = [bool(significant(dict(enumerate(row)))) for row in draws]
        assert 0.012 < np.mean(accused) < 0.028


class TestClearChance:
    def test_small_differences_do_not_matter(self):
        assert clear_chance(np.arange(1000) < 30, np.zeros(1000, bool)) == 1.0
        assert clear_chance(np.arange(1000) < 31, np.zeros(1000, bool)) == 0.5**31


class TestClearlyMore:
    @pytest.mark.parametrize(
        ("strong", "weak", "expected"),
        [
            # By chance with probability 2**-7 = 0.008, and 2**-6 = 0.016.
            (7, 0, True),
            (6, 0, False),
            (0, 7, False),
            (30, 30, False),
        ],
    )
    def test_chance(self, strong, weak, expected):
        one, other = first(strong), first(100) & ~first(100 - weak)
        assert clearly_more(one, other) is expected

    @pytest.mark.parametrize(("count", "expected"), [(30, False), (31, True)])
    def test_three_percent(self, count, expected):
        strong = np.arange(1000) < count
        assert clearly_more(strong, np.zeros(1000, bool)) is expected

    @pytest.mark.parametrize("strong", range(11, 40))
    def test_sign_test(self, strong):
        # Of the images that only one attack broke, ten were broken by the other.
        one, other = first(strong), np.arange(100) >= 90
        by_chance = binom.sf(strong - 1, strong + 10, 0.5)
        expected = strong - 10 > 3 and by_chance < 0.01
        assert clearly_more(one, other) is bool(expected)

    def test_images_that_both_broke_do_not_count(self):
        assert clearly_more(first(57), first(50))
        assert not clearly_more(first(50), first(50))
