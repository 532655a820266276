import pytest

from keras_advdef.objectives import Penalty


class TestPenalty:
    def test_round_trip(self):
        assert Penalty.from_config(Penalty(weight=0.5).get_config()).weight == 0.5

    def test_base_has_no_value(self, images, labels):
        with pytest.raises(NotImplementedError, match="must write `__call__`"):
            Penalty(weight=1.0)(None, images, labels)

    def test_rejects_negative_weight(self):
        with pytest.raises(ValueError, match="`Penalty` expects `weight`"):
            Penalty(weight=-1.0)
