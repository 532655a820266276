import keras

from keras_advdef.surgery._names import Names


def test_are_new_in_nested_models_too():
    inner = keras.Sequential([keras.layers.Dense(1, name="a")], name="b")
    names = Names(keras.Sequential([inner, keras.layers.Dense(1, name="a_1")]))
    assert [names.new(each) for each in ("a", "b", "c", "c")] == [
        "a_2",
        "b_1",
        "c",
        "c_1",
    ]
