from keras_advdef.attacks import FGSM
from keras_advdef.core.model_view import ModelView
from keras_advdef.evaluation._plan.plan import Plan
from keras_advdef.evaluation._plan.stage import Stage


def test_stages_stand_in_the_order_in_which_they_run():
    naive, check, adaptive = (
        Stage(key=key, label=key, role="check", attack=FGSM(0.1), view=ModelView(len))
        for key in "abc"
    )
    plan = Plan(
        naive=naive, checks={"x": check}, adaptive=(adaptive,), skipped=(), missing=()
    )
    assert plan.stages == (naive, check, adaptive)
