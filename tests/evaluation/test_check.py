from keras_advdef.evaluation.check import Check


def test_json_has_the_keys_of_the_report():
    check = Check(name="more_steps", passed=None, detail="Not run.", reason="why")
    assert check.to_json() == {
        "name": "more_steps",
        "passed": None,
        "detail": "Not run.",
    }
