import io
import json
import lzma
import os
import struct
import tokenize
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf.message import DecodeError

from keras_advdef.core import untrusted
from keras_advdef.core.untrusted import (
    check_memory,
    check_regular_file,
    error_reason,
    map_npz,
    memory_budget,
    open_regular_file,
    read_errors_as,
    read_json,
    read_npz,
)


class Refused(Exception):
    pass


class TestReading:
    @pytest.mark.parametrize(
        "error",
        [
            MemoryError(),
            RecursionError("too deep"),
            NotImplementedError("method 77"),
            KeyError("name"),
            UnicodeDecodeError("utf-8", b"\xff", 0, 1, "start"),
            EOFError(),
            OverflowError("large"),
            DecodeError("wire"),
            lzma.LZMAError("corrupt"),
            struct.error("short"),
            tokenize.TokenError("open"),
            zipfile.BadZipFile("crc"),
            zlib.error("code -3"),
            StopIteration("frames"),
            SystemError("tile cannot extend outside image"),
            tf.errors.DataLossError(None, None, "checksum"),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_refuses_whatever_a_library_raises(self, error):
        with (
            pytest.raises(Refused, match="It broke") as caught,
            read_errors_as(Refused, "It broke ({})."),
        ):
            raise error
        assert caught.value.__cause__ is error
        assert str(caught.value) == f"It broke ({error_reason(error)})."

    def test_other_libraries_are_named(self):
        class Bomb(Exception):
            pass

        with (
            pytest.raises(Refused, match="large"),
            read_errors_as(Refused, "{}", also=(Bomb,)),
        ):
            raise Bomb("large")

    def test_interrupts_and_results_pass(self):
        with read_errors_as(Refused, "{}"):
            found = 1
        assert found == 1
        with pytest.raises(KeyboardInterrupt), read_errors_as(Refused, "{}"):
            raise KeyboardInterrupt

    def test_advice_is_not_a_format_string(self):
        # Names from files appear in the advice.
        with (
            pytest.raises(Refused, match=r"^\{0\} broke \(bad\)"),
            read_errors_as(Refused, "{0} broke ({})"),
        ):
            raise ValueError("bad")


class TestReasonOf:
    def test_is_one_short_line(self):
        assert error_reason(ValueError("two\n  lines.")) == "two lines"
        assert error_reason(MemoryError()) == "MemoryError"
        assert error_reason(OSError(28, "No space left on device", "f")) == (
            "No space left on device"
        )
        assert len(error_reason(ValueError("a" * 1000))) == 300


class TestMemory:
    def test_half_of_the_memory(self, monkeypatch, tmp_path):
        monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 10, "SC_PAGE_SIZE": 8}.get)
        monkeypatch.setattr(untrusted, "_CONTAINER_LIMIT", tmp_path / "none")
        assert memory_budget() == 40

    @pytest.mark.parametrize(("text", "expected"), [("60\n", 30), ("max\n", 40)])
    def test_containers_have_less(self, monkeypatch, tmp_path, text, expected):
        monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 10, "SC_PAGE_SIZE": 8}.get)
        (tmp_path / "max").write_text(text)
        monkeypatch.setattr(untrusted, "_CONTAINER_LIMIT", tmp_path / "max")
        assert memory_budget() == expected

    def test_systems_that_do_not_tell(self, monkeypatch, tmp_path):
        monkeypatch.delattr(os, "sysconf_names")
        monkeypatch.setattr(untrusted, "_CONTAINER_LIMIT", tmp_path / "none")
        assert memory_budget() == 4 * 2**30

    def test_names_both_sizes(self, monkeypatch):
        monkeypatch.setattr(untrusted, "memory_budget", lambda: 2048)
        check_memory(2048, "Images", Refused)
        text = r"Images would take 3\.5 TiB; the limit is 2 KiB\."
        with pytest.raises(Refused, match=text):
            check_memory(7 * 2**39, "Images", Refused)


class TestOpened:
    def test_gives_the_bytes(self, tmp_path):
        (tmp_path / "file").write_bytes(b"bytes")
        with open_regular_file(tmp_path / "file", Refused) as file:
            assert file.read() == b"bytes"
        assert file.closed

    def test_nothing_there(self, tmp_path):
        with pytest.raises(Refused, match="cannot be opened: No such file"):
            check_regular_file(tmp_path / "none", Refused)

    @pytest.mark.parametrize("path", ["/dev/zero", "."])
    def test_no_plain_file(self, path):
        with pytest.raises(Refused, match="It is not a regular file"):
            check_regular_file(Path(path), Refused)

    def test_pipes_are_not_opened(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        # Opening it would wait for a writer forever.
        with pytest.raises(Refused, match="It is not a regular file"):
            read_json(tmp_path / "pipe", Refused)


class TestReadJson:
    def test_depth(self, tmp_path):
        (tmp_path / "a.json").write_text("[" * 99 + "1" + "]" * 99)
        values = read_json(tmp_path / "a.json", Refused)
        assert json.dumps(values) == "[" * 99 + "1" + "]" * 99

    def test_pairs_of_halves(self, tmp_path):
        (tmp_path / "a.json").write_text('["\\ud83d\\ude00"]')
        assert read_json(tmp_path / "a.json", Refused) == ["\U0001f600"]

    def test_values(self, tmp_path):
        (tmp_path / "a.json").write_text('{"a": [1, "ü"]}', encoding="utf-8")
        assert read_json(tmp_path / "a.json", Refused) == {"a": [1, "ü"]}

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"{",
            b"\xff\xfe",
            b"\xef\xbb\xbf{}",
            b'{"a": 1} b',
            b"[" * 100000,
            b"[" * 900 + b"]" * 900,
            b'{"a":' * 900 + b"1" + b"}" * 900,
            b"9" * 5000,
            b'{"a": NaN}',
            b"[-Infinity]",
            b"[1e400]",
            b"[" + b"9" * 400 + b"]",
            b'{"a": {"b": 1, "c": 2, "b": 1}}',
            b'["\\ud800"]',
            b'{"\\udc00": 1}',
        ],
        ids=range(16),
    )
    def test_refuses_anything_else(self, tmp_path, content):
        (tmp_path / "a.json").write_bytes(content)
        with pytest.raises(Refused, match=r"It is not (JSON|UTF-8 text)"):
            read_json(tmp_path / "a.json", Refused)

    def test_refuses_what_is_too_large(self, tmp_path):
        with (tmp_path / "a.json").open("wb") as file:
            file.truncate(2**40)
        with pytest.raises(Refused, match="larger than 16 MiB"):
            read_json(tmp_path / "a.json", Refused)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "arrays.npz"
    arrays = {
        "whole": np.arange(6, dtype=np.uint8).reshape(2, 3),
        "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "single": np.array(7),
        "none": np.zeros((0, 4), np.float32),
        "big_endian": np.arange(3, dtype=">i4"),
    }
    np.savez_compressed(path, **arrays)
    return path


class TestReadNpz:
    def test_equals_numpy(self, path):
        found = read_npz(path, Refused)
        with np.load(path) as expected:
            assert list(found) == expected.files
            for name, array in found.items():
                np.testing.assert_array_equal(array, expected[name])
                assert array.dtype == expected[name].dtype

    def test_chosen_names(self, path):
        assert list(read_npz(path, Refused, names=["single"])) == ["single"]
        with pytest.raises(Refused, match="lacks other and holds whole, columns"):
            read_npz(path, Refused, names=["whole", "other"])

    def test_second_version_of_the_format(self, tmp_path):
        content = io.BytesIO()
        np.lib.format.write_array(content, np.arange(3), version=(2, 0))
        with zipfile.ZipFile(tmp_path / "second.npz", "w") as archive:
            archive.writestr("a.npy", content.getvalue())
        found = read_npz(tmp_path / "second.npz", Refused)
        np.testing.assert_array_equal(found["a"], np.arange(3))

    def test_long_names_are_cut(self, tmp_path):
        name = "x" * 60000
        for names in ([name], [name, name]):
            with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
                for each in names:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")  # of the second
                        archive.writestr(each, b"")
            with pytest.raises(Refused, match=r"x{37}") as caught:
                read_npz(tmp_path / "a.npz", Refused, names=["a"])
            assert len(str(caught.value)) < 100

    @pytest.mark.parametrize("descr", ["<U0", "|S0", "|V0"])
    def test_elements_without_bytes(self, tmp_path, descr):
        # A trillion of these fit into any file.
        content = io.BytesIO()
        np.save(content, np.zeros(10, np.uint8))
        claim = content.getvalue()[:-10].replace(b"(10,)", b"(10000000000000000,)")
        claim = claim.replace(b"|u1", descr.encode())[:128].ljust(128)
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            archive.writestr("a.npy", claim)
        with pytest.raises(Refused, match="its elements have no bytes"):
            read_npz(tmp_path / "a.npz", Refused)

    def test_budget(self, path, monkeypatch):
        monkeypatch.setattr(untrusted, "memory_budget", lambda: 500)
        with pytest.raises(Refused, match="What it holds would take"):
            read_npz(path, Refused)
        assert read_npz(path, Refused, names=["whole"])["whole"].sum() == 15

    def test_claims_are_compared_before_memory_is_taken(self, tmp_path):
        content = io.BytesIO()
        np.save(content, np.zeros(10, np.uint8))
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            claim = content.getvalue().replace(b"(10,)", b"(99,)")
            archive.writestr("a.npy", claim)
        text = "a cannot be read .its header claims 99 bytes, but it has 10"
        with pytest.raises(Refused, match=text):
            read_npz(tmp_path / "a.npz", Refused)


class TestMapNpz:
    @pytest.fixture
    def arrays(self):
        return {
            "rows": np.arange(12.0).reshape(4, 3),
            "columns": np.asfortranarray(np.arange(6, dtype=np.uint8).reshape(2, 3)),
        }

    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    def test_gives_what_was_saved(self, save, arrays, tmp_path):
        path = tmp_path / "a.npz"
        save(path, **arrays)
        names = ["columns", "rows"]
        for name, found in zip(names, map_npz(path, Refused, names=names), strict=True):
            np.testing.assert_array_equal(found, arrays[name])
            assert found.dtype == arrays[name].dtype
            assert isinstance(found, np.memmap) == (save is np.savez)
            assert save is not np.savez or not found.flags.writeable

    def test_refuses_what_reading_refuses(self, arrays, tmp_path):
        path = tmp_path / "a.npz"
        np.savez(path, objects=np.array([{}, None]), **arrays)
        with pytest.raises(Refused, match="It lacks no and holds objects, rows"):
            map_npz(path, Refused, names=["no"])
        with pytest.raises(Refused, match="objects cannot be read"):
            map_npz(path, Refused, names=["objects"])
        whole = path.read_bytes()
        path.write_bytes(whole.replace(b"(4, 3)", b"(9, 3)"))
        with pytest.raises(Refused, match="header claims 216 bytes, but it has 96"):
            map_npz(path, Refused, names=["rows"])
        path.write_bytes(whole[:100])
        with pytest.raises(Refused, match="not a complete archive"):
            map_npz(path, Refused, names=["rows"])
