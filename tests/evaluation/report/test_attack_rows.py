import pytest

from keras_advdef.evaluation._report.attack_rows import attack_rows


def data(*attacks, clean=0.9):
    names = ("key", "name", "role", "images", "accuracy_after")
    return {
        "clean": {"accuracy": clean},
        "attacks": [dict(zip(names, each, strict=True)) for each in attacks],
    }


def test_each_attack_once():
    rows = attack_rows(
        data(
            ("naive", "PGD-20", "naive", 90, 0.5),
            ("check-fgsm", "FGSM", "check", 40, 0.5),
            ("check-iterative", "PGD-20", "check", 40, 0.45),
            ("00", "APGD-100", "adaptive", 45, 0.3),
        )
    )
    purposes = "ignores the defence; many steps, to compare with one"
    assert rows == [
        ["PGD-20", purposes, "90", "45.0 points"],
        ["FGSM", "one step, to compare with many", "40", "0.0 points"],
        ["APGD-100", "attacks what is left", "45", "15.0 points"],
    ]


@pytest.mark.parametrize(
    ("key", "role", "purpose"),
    [
        ("target-3", "adaptive", "evades the class that raises the alarm"),
        ("check-new", "check", "tests the other attacks"),
        ("x", "a role of later", "a role of later"),
    ],
)
def test_purposes(key, role, purpose):
    assert attack_rows(data((key, "a", role, 1, 0.9)))[0][1] == purpose


def test_old_reports_have_no_keys():
    old = data(("naive", "PGD-20", "naive", 90, 0.5))
    del old["attacks"][0]["key"]
    assert attack_rows(old) == [["PGD-20", "ignores the defence", "90", "40.0 points"]]


def test_rounding_shows_no_negative_zero():
    rows = attack_rows(data(("00", "a", "adaptive", 1, 0.9 + 1e-9)))
    assert rows[0][3] == "0.0 points"
