from keras_advdef.core.lock import locked


def test_one_at_a_time(tmp_path):
    path = tmp_path / "lock"
    with path.open("w") as first, path.open("w") as second:
        assert locked(first)
        assert locked(first)
        assert not locked(second)
        first.close()
        assert locked(second)
