import json
import lzma
import os
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path

import pytest
import tensorflow as tf
from google.protobuf.message import DecodeError

from keras_advdef.core import untrusted
from keras_advdef.core.untrusted import (
    check_memory,
    check_regular,
    memory_budget,
    opened,
    read_json,
    reading,
    reason_of,
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
            reading(Refused, "It broke ({})."),
        ):
            raise error
        assert caught.value.__cause__ is error
        assert str(caught.value) == f"It broke ({reason_of(error)})."

    def test_other_libraries_are_named(self):
        class Bomb(Exception):
            pass

        with (
            pytest.raises(Refused, match="large"),
            reading(Refused, "{}", also=(Bomb,)),
        ):
            raise Bomb("large")

    def test_interrupts_and_results_pass(self):
        with reading(Refused, "{}"):
            found = 1
        assert found == 1
        with pytest.raises(KeyboardInterrupt), reading(Refused, "{}"):
            raise KeyboardInterrupt

    def test_advice_is_no_format(self):
        # Names from files get into the advice.
        with (
            pytest.raises(Refused, match=r"^\{0\} broke \(bad\)"),
            reading(Refused, "{0} broke ({})"),
        ):
            raise ValueError("bad")


class TestReasonOf:
    def test_is_one_short_line(self):
        assert reason_of(ValueError("two\n  lines.")) == "two lines"
        assert reason_of(MemoryError()) == "MemoryError"
        assert reason_of(OSError(28, "No space left on device", "f")) == (
            "No space left on device"
        )
        assert len(reason_of(ValueError("a" * 1000))) == 300


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
        text = r"Images would take 3\.5 TiB, and 2 KiB may be\."
        with pytest.raises(Refused, match=text):
            check_memory(7 * 2**39, "Images", Refused)


class TestOpened:
    def test_gives_the_bytes(self, tmp_path):
        (tmp_path / "file").write_bytes(b"bytes")
        with opened(tmp_path / "file", Refused) as file:
            assert file.read() == b"bytes"
        assert file.closed

    def test_nothing_there(self, tmp_path):
        with pytest.raises(Refused, match="cannot be opened: No such file"):
            check_regular(tmp_path / "none", Refused)

    @pytest.mark.parametrize("path", ["/dev/zero", "."])
    def test_no_plain_file(self, path):
        with pytest.raises(Refused, match="It is no plain file"):
            check_regular(Path(path), Refused)

    def test_pipes_are_not_opened(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        # Opening it would wait for a writer, for ever.
        with pytest.raises(Refused, match="It is no plain file"):
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
    def test_refuses_what_is_none(self, tmp_path, content):
        (tmp_path / "a.json").write_bytes(content)
        with pytest.raises(Refused, match="It is no JSON"):
            read_json(tmp_path / "a.json", Refused)

    def test_refuses_what_is_too_large(self, tmp_path):
        with (tmp_path / "a.json").open("wb") as file:
            file.truncate(2**40)
        with pytest.raises(Refused, match="larger than 16 MiB"):
            read_json(tmp_path / "a.json", Refused)
