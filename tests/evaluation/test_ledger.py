import numpy as np
import pytest

from keras_advdef.evaluation.ledger import Ledger, check_identity


def part(value):
    return lambda: {"a": np.array([value]), "b": np.arange(3)}


class TestLedger:
    def test_parts_are_computed_once(self, tmp_path):
        ledger = Ledger(tmp_path, {"seed": 0})
        assert not ledger.holds("one")
        first = ledger.part("one", part(1))
        assert ledger.holds("one")
        again = ledger.part("one", part(2))
        assert first.keys() == again.keys()
        assert again["a"].tolist() == [1]
        ledger.close(finished=False)
        later = Ledger(tmp_path, {"seed": 0})
        assert later.part("one", part(3))["a"].tolist() == [1]
        later.close(finished=True)
        assert not (tmp_path / "progress").exists()

    def test_keeps_nothing_without_a_folder(self):
        ledger = Ledger(None, {})
        assert ledger.part("one", part(1))["a"].tolist() == [1]
        assert ledger.part("one", part(2))["a"].tolist() == [2]
        assert not ledger.holds("one")
        ledger.close(finished=True)

    def test_failed_part_leaves_nothing(self, tmp_path):
        ledger = Ledger(tmp_path, {})
        with pytest.raises(ZeroDivisionError):
            ledger.part("one", lambda: {"a": np.array(1 / 0)})
        assert not ledger.holds("one")
        ledger.close(finished=False)
        names = {path.name for path in (tmp_path / "progress").iterdir()}
        assert names == {"identity.json", "lock"}

    def test_other_identity_is_refused_by_name(self, tmp_path):
        Ledger(tmp_path, {"seed": 0, "norm": "l2"}).close(finished=False)
        with pytest.raises(ValueError, match="has another seed; choose another one"):
            Ledger(tmp_path, {"seed": 1, "norm": "l2"})
        Ledger(tmp_path, {"seed": 0, "norm": "l2"}).close(finished=False)

    def test_two_at_once_are_refused(self, tmp_path):
        ledger = Ledger(tmp_path, {})
        with pytest.raises(ValueError, match="no other evaluation uses"):
            Ledger(tmp_path, {})
        ledger.close(finished=False)

    def test_folder_below_a_file(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(ValueError, match="Not a directory; choose another one"):
            Ledger(tmp_path / "file" / "out", {})


def test_check_identity_names_all_differences(tmp_path):
    with pytest.raises(ValueError, match="another data, model"):
        check_identity(tmp_path, {"data": 1, "model": 1}, {"data": 2, "model": 3})
