import pytest

from keras_advdef.objectives import Objective


class TestObjective:
    def test_states_nothing_about_the_attack(self):
        assert (Objective.inner_loss, Objective.inner_start) == (None, None)

    def test_round_trip(self):
        assert isinstance(Objective.from_config(Objective().get_config()), Objective)

    def test_base_has_no_value(self, images, labels):
        with pytest.raises(NotImplementedError, match="must write `__call__`"):
            Objective()(None, images, labels, images)
