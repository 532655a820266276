import json
import os

import pytest

from keras_advdef.evaluation._run.sealed import (
    file_digest,
    read_json,
    read_record,
    read_sealed,
    record_digest,
    write_record,
    write_sealed,
)
from tests.support.damages import DAMAGES
from tests.support.marks import needs_pipes


class TestSealed:
    def test_bytes_come_back(self, tmp_path):
        for content in (b"", b"numbers"):
            write_sealed(tmp_path / "a", content, "a")
            assert read_sealed(tmp_path / "a", "a") == content

    @pytest.mark.parametrize("damage", DAMAGES)
    def test_damage_is_seen(self, damage, tmp_path):
        write_sealed(tmp_path / "a", b"numbers" * 20, "a")
        DAMAGES[damage](tmp_path / "a")
        assert read_sealed(tmp_path / "a", "a") is None

    def test_every_byte_counts(self, tmp_path):
        path = tmp_path / "a"
        write_sealed(path, b"numbers", "a")
        whole = path.read_bytes()
        for index in range(len(whole)):
            path.write_bytes(
                whole[:index] + bytes([whole[index] ^ 1]) + whole[index + 1 :]
            )
            assert read_sealed(path, "a") is None

    @needs_pipes
    def test_a_pipe_is_not_waited_for(self, tmp_path):
        os.mkfifo(tmp_path / "a")
        for read in (read_json, file_digest):
            assert read(tmp_path / "a") is None
        assert read_sealed(tmp_path / "a", "a") is None

    def test_what_is_larger_than_memory_is_not_read(self, tmp_path):
        write_sealed(tmp_path / "a", b"numbers", "a")
        with (tmp_path / "a").open("r+b") as file:
            file.truncate(2**43)
        assert file_digest(tmp_path / "a") is None
        assert read_sealed(tmp_path / "a", "a") is None

    def test_another_place_is_no_place(self, tmp_path):
        write_sealed(tmp_path / "a", b"numbers", "a")
        assert read_sealed(tmp_path / "a", "b") is None


VALUES = {"name": "ä", "numbers": [1, 0.1, None], "inner": {"b": 1, "a": 2}}


class TestRecord:
    def test_values_come_back_and_can_be_read(self, tmp_path):
        path = tmp_path / "a.json"
        write_record(path, VALUES, "a")
        assert read_record(path, "a") == VALUES
        assert json.loads(path.read_text())["inner"] == {"b": 1, "a": 2}

    @pytest.mark.parametrize("damage", DAMAGES)
    def test_damage_is_seen(self, damage, tmp_path):
        write_record(tmp_path / "a.json", VALUES, "a")
        DAMAGES[damage](tmp_path / "a.json")
        assert read_record(tmp_path / "a.json", "a") is None

    def test_another_record_is_none(self, tmp_path):
        write_record(tmp_path / "a.json", VALUES, "a")
        assert read_record(tmp_path / "a.json", "b") is None

    @pytest.mark.parametrize("text", ["[" * 100_000, "[1]", "3", "{}", '{"a": 1}'])
    def test_json_of_another_origin(self, text, tmp_path):
        (tmp_path / "a.json").write_text(text)
        assert read_record(tmp_path / "a.json", "a") is None

    def test_a_huge_file_is_not_read(self, tmp_path):
        with (tmp_path / "a.json").open("wb") as file:
            file.truncate(2**25)
        assert read_json(tmp_path / "a.json") is None

    def test_digest_knows_no_order(self):
        assert record_digest({"a": 1, "b": 2}, "c") == record_digest(
            {"b": 2, "a": 1}, "c"
        )


def test_file_digest(tmp_path):
    (tmp_path / "a").write_bytes(b"")
    assert file_digest(tmp_path / "a").startswith("e3b0c44298fc1c14")
    assert file_digest(tmp_path / "b") is None
    assert file_digest(tmp_path) is None
