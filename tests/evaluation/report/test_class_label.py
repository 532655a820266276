import pytest

from keras_advdef.evaluation._report.class_label import class_label, named_classes


def test_names_where_there_are_any():
    assert class_label(1, ["cat", "dog"]) == "dog"
    assert class_label(2, ["cat", "dog"]) == "2"
    assert class_label(2, None) == "2"
    assert class_label(-1, ["cat", "dog"]) == "none"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("of 9 of class 1: 3", "of 9 of class 1 (dog): 3"),
        ("Class 0 is no label; class 2 is.", "Class 0 (cat) is no label; class 2 is."),
        ("targeted at class 1 by likelihood", "targeted at class 1 by likelihood"),
        ("subclass 1, class 10, class " + "1" * 5000, None),
    ],
)
def test_sentences_name_their_classes(text, named):
    assert named_classes(text, ["cat", "dog"]) == (named or text)
    assert named_classes(text, None) == text
