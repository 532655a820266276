from keras_advdef.core.data.argument_name import named_argument, part_owner, refused


def test_is_that_of_the_command_unless_named():
    assert str(refused("a file", "x")).startswith("`keras-advdef` expects `--data` to")
    assert part_owner("x.npz") == "--data x.npz"


def test_holds_in_the_body_alone():
    with named_argument("harden", "train_data"):
        text = str(refused("a file", "x", "Check it."))
        assert part_owner("x.npz") == "train_data x.npz"
    assert text == (
        "`harden` expects `train_data` to be a file. Received: train_data='x'. "
        "Check it."
    )
    assert part_owner("x.npz") == "--data x.npz"
