import pytest

from keras_advdef.evaluation._report.plain_words import plain_words, right_of
from tests.support.report_values import judgements


@pytest.fixture
def sound(report_values):
    """A report in which no check failed."""
    checks = [each for each in report_values["checks"] if each["passed"] is not False]
    return {**report_values, "checks": checks}


def test_result_counts_images(report_values):
    assert plain_words(report_values).result == (
        "Of 10 images, the model gets 9 right; 3 of them survive an attacker who may "
        "change every pixel by up to 25.5 of 255 levels."
    )


def test_random_models_are_right_on_average(report_values):
    spread = {"judgements": judgements()}
    report_values["adaptive"] |= spread
    assert "gets 9 right on average;" in plain_words(report_values).result


def test_failed_checks_are_named(report_values):
    words = plain_words(report_values)
    assert words.is_doubtful
    assert words.trust.startswith("Do not trust the second number: 1 of 2 checks")
    assert "(input gradients)" in words.trust


def test_at_chance_there_is_nothing_to_trust(report_values):
    report_values["checks"][0] = {
        "name": "better_than_chance",
        "passed": False,
        "detail": ".",
    }
    words = plain_words(report_values)
    assert words.is_doubtful
    assert words.trust.startswith("It is hardly better than guessing")


def check(name, passed):
    return {"name": name, "passed": passed, "detail": "."}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"is_robust_accuracy": True}, ", and every attack that is due"),
        ({"budget": "quick"}, ", but this was a quick look"),
        ({"budget": "standard"}, ", but 1 more could not run, and further attacks may"),
        (
            {"budget": "full", "checks": [check("more_steps", True)]},
            ", but further attacks may leave fewer images.",
        ),
    ],
)
def test_without_failed_checks(sound, changes, said):
    words = plain_words({**sound, **changes})
    assert not words.is_doubtful
    assert words.trust.startswith("None of the 1 checks that ran found a fault")
    assert said in words.trust


@pytest.mark.parametrize(
    ("passed", "beginning", "end"),
    [
        (True, "Take the second number as an upper bound: 1 of", "any further image."),
        (False, "Do not trust the second number: 2 of", "attacks it still falls."),
        (None, "Do not trust the second number: 1 of", "may leave fewer images."),
    ],
)
def test_after_further_attacks(report_values, passed, beginning, end):
    report_values["checks"].append(check("settled", passed))
    words = plain_words(report_values)
    assert words.is_doubtful
    assert words.trust.startswith(beginning)
    assert words.trust.endswith(end)
    assert "(input gradients)" in words.trust


def test_old_reports_claim_it_in_the_headline(sound):
    del sound["is_robust_accuracy"]
    assert "more attacks may leave fewer" in plain_words(sound).trust
    sound["headline"] = "Robust accuracy 30.0 % under AutoAttack."
    assert "is due" in plain_words(sound).trust


def test_counts_are_rounded():
    assert right_of({"accuracy": 0.29, "count": 100}) == 29
    assert right_of({"accuracy": 0.125, "count": 20}) == 2


def test_reference_is_told_beside(report_values):
    words = plain_words(report_values)
    assert words.beside == (
        "The reference, without the defence, gets 9 right; 0 of them survive such an "
        "attacker."
    )
    assert words.sentences == (words.result, words.beside, words.trust)
    report_values["reference"] = None
    assert plain_words(report_values).beside == ""
