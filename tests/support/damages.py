"""What can happen to a file on a disk."""


def _truncated(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(bytes(content))


def _emptied(path):
    path.write_bytes(b"")


def _foreign(path):
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)))


def _folder(path):
    path.unlink()
    path.mkdir()
    (path / "mine.txt").write_text("mine")


def _gone(path):
    path.unlink()


# Damage to the bytes alone; `DAMAGES` adds a folder in the file's place, or nothing.
BYTES = {
    "truncated": _truncated,
    "flipped": _flipped,
    "emptied": _emptied,
    "foreign": _foreign,
}
DAMAGES = {**BYTES, "folder": _folder, "gone": _gone}
