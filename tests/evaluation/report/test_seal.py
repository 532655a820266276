import pytest

from keras_advdef.evaluation._report.seal import SEAL, Seal
from keras_advdef.evaluation._run.sealed import write_record
from tests.support.damages import DAMAGES

NAMES = ["a.txt", "b.txt"]


@pytest.fixture
def folder(tmp_path):
    for name in NAMES:
        (tmp_path / name).write_text(f"This is {name}.")
    Seal.write(tmp_path, {"seed": 0}, NAMES)
    return tmp_path


class TestSeal:
    def test_tells_whole_files(self, folder):
        seal = Seal.of(folder)
        assert seal.identity == {"seed": 0}
        assert list(seal.files) == NAMES
        assert seal.damaged == set()

    @pytest.mark.parametrize("damage", DAMAGES)
    def test_tells_damaged_files(self, damage, folder):
        DAMAGES[damage](folder / "b.txt")
        assert Seal.of(folder).damaged == {"b.txt"}

    @pytest.mark.parametrize(
        "values",
        [
            {},
            {"identity": 1},
            {"files": ["a.txt"]},
            {"files": {"../a.txt": "0"}},
            {"files": {"/dev/zero": "0"}},
        ],
        ids=str,
    )
    def test_is_none_when_it_is_of_other_values(self, values, folder):
        write_record(folder / SEAL, values, SEAL)
        assert Seal.of(folder) is None

    @pytest.mark.parametrize("damage", DAMAGES)
    def test_is_none_when_damaged_itself(self, damage, folder):
        DAMAGES[damage](folder / SEAL)
        assert Seal.of(folder) is None
