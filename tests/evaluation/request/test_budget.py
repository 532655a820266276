from keras_advdef.evaluation._request.budget import BUDGETS


def test_sizes_grow():
    assert list(BUDGETS) == ["quick", "standard", "full"]
    assert (BUDGETS["quick"].images, BUDGETS["standard"].images) == (200, 1000)
    assert BUDGETS["full"].images is None
    passes = [budget.passes for budget in BUDGETS.values()]
    assert passes == sorted(passes)
