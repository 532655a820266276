from keras_advdef.evaluation._report.class_label import class_label


def test_names_where_there_are_any():
    assert class_label(1, ["cat", "dog"]) == "dog"
    assert class_label(2, ["cat", "dog"]) == "2"
    assert class_label(2, None) == "2"
    assert class_label(-1, ["cat", "dog"]) == "none"
