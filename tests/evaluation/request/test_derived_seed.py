from keras_advdef.evaluation._request.derived_seed import derived_seed


def test_depends_on_every_part():
    parts = [(0, "a", 1), (1, "a", 1), (0, "b", 1), (0, "a", 2), (0, "a")]
    seeds = [derived_seed(*each) for each in parts]
    assert len(set(seeds)) == len(parts)
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_is_the_same_in_every_process():
    # Python's own `hash` of a string is not. By hand: 7ea1d2b23b5a8c56 modulo 2**31,
    # what `printf 0/naive-0000 | sha256sum` begins with.
    assert derived_seed(0, "naive-0000") == 995789910
