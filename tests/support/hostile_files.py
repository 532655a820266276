"""An endless supply of corrupted files, drawn from sound ones.

A format has sound files, and a way to change their bytes: near the marks of its
structure, at random, or within, with all checksums mended, so that readers get past
them. What each reader must do with whatever comes out stands in
`tests/test_untrusted_files.py`.
"""

import contextlib
import copy
import dataclasses
import io
import json
import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from google.protobuf.message import Message
from PIL import Image
from tensorflow.core.protobuf import saved_model_pb2

# Numbers to put into headers.
_EXTREMES = (0, 1, 2, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1)
_EXTREMES += (2**48, 2**63 - 1, 2**63, 2**64 - 1)
_MARKS = {
    "zip": rb"PK\x03\x04|PK\x01\x02|PK\x05\x06|PK\x06\x06|PK\x06\x07|PK\x07\x08",
    "npy": rb"\x93NUMPY|'descr'|'fortran_order'|'shape'|\n",
    "png": rb"IHDR|PLTE|tRNS|eXIf|acTL|fcTL|fdAT|IDAT|iCCP|tEXt|zTXt|iTXt|gAMA|IEND",
    "jpeg": rb"\xff[\xc0-\xcf\xd8-\xef]|Exif|JFIF|Adobe|II\*\x00",
    "gif": rb"GIF8[79]a|!\xf9|!\xff|\x2c\x00\x00|\x3b$",
    "bmp": rb"^BM|\x28\x00\x00\x00|\x7c\x00\x00\x00",
    "tiff": rb"^II\*\x00|^MM\x00\*|\x00\x01[\x03\x04]\x00|\x01[\x01-\x53]\x03\x00",
    "webp": rb"RIFF|WEBP|VP8[ LX]|ALPH|ANIM|ANMF|EXIF|XMP ",
    "ppm": rb"^P[1-7]|\n| |TUPLTYPE|ENDHDR",
    "hdf5": rb"\x89HDF|OHDR|OCHK|TREE|SNOD|HEAP|GCOL|FRHP|FHDB|FHIB|BTHD|BTLF|BTIN",
    "protobuf": rb"[\x0a\x12\x1a\x22\x2a\x32]",
    "text": rb"[\[\]{}:,\"]",
}
# Values for JSON, some of which only Python accepts.
_NASTY = (
    None,
    True,
    -1,
    0,
    0.5,
    10**9,
    10**30,
    -(2**63),
    1e308,
    float("nan"),
    float("inf"),
    "",
    "none",
    "\ud800",
    "\x1b[2J\n\u202e",
    "x" * 5000,
    "../../etc/passwd",
    [],
    {},
    [[[]]],
    {"class_name": "Dense", "config": {}},
    [0] * 1000,
)


@dataclasses.dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        name: What it is called.
        sound: Sound files of the kind.
        change: Makes a hostile file from one of them and draws.
    """

    name: str
    sound: list[bytes]
    change: Callable[[bytes, np.random.Generator], bytes]

    def files(self, count, seed):
        """Yields `count` hostile files, the same for the same seed."""
        for number in range(count):
            generator = np.random.default_rng([seed, number])
            chosen = self.sound[int(generator.integers(len(self.sound)))]
            yield self.change(chosen, generator)


def changed(content, generator, marks):
    """Bytes with one to three changes, mostly near the marks."""
    places = [found.start() for found in re.finditer(marks, content, re.DOTALL)] or [0]
    data = bytearray(content)
    for _ in range(int(generator.integers(1, 4))):
        place = int(generator.integers(len(data) + 1))
        if generator.random() < 0.6:
            near = int(generator.choice(places)) + int(generator.integers(-4, 40))
            place = min(max(near, 0), len(data))
        _change_at(data, place, generator)
    return bytes(data)


def _change_at(data, place, generator):
    length = int(generator.integers(1, 24))
    there = data[place : place + length]
    width = int(generator.choice([2, 4, 8]))
    changes = [
        (1, generator.bytes(1)),
        (1, bytes([each ^ 1 << int(generator.integers(8)) for each in there[:1]])),
        (width, _extreme(width, generator)),
        (len(data), b""),
        (length, b""),
        (0, there),
        (0, generator.bytes(length)),
    ]
    gone, instead = changes[int(generator.integers(len(changes)))]
    data[place : place + gone] = instead


def _extreme(width, generator):
    numbers = [number for number in _EXTREMES if number < 256**width]
    number = numbers[int(generator.integers(len(numbers)))]
    return number.to_bytes(width, str(generator.choice(["little", "big"])))


def truncations(content, kind):
    """The file cut at each mark of its structure, and next to it."""
    marks = [found.start() for found in re.finditer(_MARKS[kind], content, re.DOTALL)]
    ends = {0, len(content) - 1}
    for start in (*marks[:20], *marks[-20:]):
        ends |= {start - 1, start, start + 1, start + 4, start + 8}
    return [content[:end] for end in sorted(ends) if 0 <= end < len(content)]


def _by_bytes(kind):
    return lambda content, generator: changed(content, generator, _MARKS[kind])


# JSON.


def changed_json(content, generator):
    """JSON with one value replaced, removed, doubled or nested, or with other bytes."""
    if generator.random() < 0.2:
        return changed(content, generator, _MARKS["text"])
    values = json.loads(content)
    for _ in range(int(generator.integers(1, 3))):
        _change_value(values, generator)
    text = json.dumps(values)
    if generator.random() < 0.1 and text.startswith("{"):
        text = '{"a": 1, "a": 2, ' + text[1:]
    return text.encode()


def _change_value(values, generator):
    holders = [each for each in _holders(values) if len(each)]
    if not holders:
        return
    holder = holders[int(generator.integers(len(holders)))]
    keys = list(holder) if isinstance(holder, dict) else range(len(holder))
    key = keys[int(generator.integers(len(keys)))]
    match int(generator.integers(6)):
        case 0:
            del holder[key]
        case 1:
            for _ in range(int(generator.choice([1, 50, 400]))):
                holder[key] = [holder[key]]
        case _:
            nasty = _NASTY[int(generator.integers(len(_NASTY)))]
            holder[key] = copy.deepcopy(nasty)


def _holders(values):
    found, waiting = [], [values]
    while waiting:
        value = waiting.pop()
        if isinstance(value, (dict, list)):
            found.append(value)
            waiting += value.values() if isinstance(value, dict) else value
    return found


# Archives.


def archive_of(members):
    """A zip archive of the members, with right checksums."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return content.getvalue()


def members_of(content):
    """The members of a zip archive."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def changed_member(change, ending=""):
    """Changes one member of an archive, which stays a sound archive."""

    def make(content, generator):
        members = members_of(content)
        names = [name for name in members if name.endswith(ending)]
        name = str(generator.choice(names))
        return archive_of({**members, name: change(members[name], generator)})

    return make


# Pictures.


def _saved(pixels, kind, mode=None, **options):
    content = io.BytesIO()
    image = Image.fromarray(pixels)
    if mode is not None:
        image = image.convert(mode)
    image.save(content, kind, **options)
    return content.getvalue()


def pictures():
    """Sound files of every supported format, and of some that are refused."""
    generator = np.random.default_rng(0)
    grey = generator.integers(256, size=(6, 5), dtype=np.uint8)
    colour = generator.integers(256, size=(6, 5, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6

    def frames():
        return {"save_all": True, "append_images": [Image.fromarray(colour[::-1])]}

    return {
        "png": [
            _saved(grey, "png"),
            _saved(colour, "png", exif=exif),
            _saved(colour, "png", "P"),
            _saved(colour, "png", "RGBA"),
            _saved(grey, "png", "1"),
            _saved(grey.astype(np.uint16), "png"),
            _saved(colour, "png", **frames()),
        ],
        "jpeg": [
            _saved(grey, "jpeg"),
            _saved(colour, "jpeg", exif=exif),
            _saved(colour, "jpeg", "CMYK"),
            _saved(colour, "jpeg", progressive=True),
            _saved(colour, "mpo", **frames()),
        ],
        "gif": [
            _saved(grey, "gif"),
            _saved(colour, "gif", interlace=1, transparency=0),
            _saved(colour, "gif", **frames()),
        ],
        "bmp": [
            _saved(grey, "bmp"),
            _saved(colour, "bmp"),
            _saved(colour, "bmp", "P"),
            _saved(colour, "bmp", "RGBA"),
            _saved(grey, "bmp", "1"),
        ],
        "tiff": [
            _saved(grey, "tiff", exif=exif),
            _saved(colour, "tiff", compression="tiff_lzw"),
            _saved(colour, "tiff", compression="jpeg"),
            _saved(colour, "tiff", compression="tiff_deflate"),
            _saved(grey, "tiff", "1", compression="group4"),
            _saved(colour, "tiff", "CMYK"),
            _saved(grey.astype(np.uint16), "tiff"),
            _saved(colour, "tiff", **frames()),
        ],
        "webp": [
            _saved(colour, "webp"),
            _saved(colour, "webp", "RGBA", lossless=True),
            _saved(colour, "webp", exif=exif),
            _saved(colour, "webp", **frames()),
        ],
        "ppm": [
            _saved(grey, "ppm"),
            _saved(colour, "ppm"),
            b"P1 5 6\n" + b"1 0 " * 15,
            b"P2 5 6 7\n" + b"1 7 " * 15,
            b"P3 1 2 255\n1 2 3 4 5 6\n",
            b"P6 5 6 65535\n" + bytes(180),
        ],
    }


def mended_png(content):
    """A PNG with right checksums as far as its chunks can be followed."""
    data, place = bytearray(content), 8
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        end = place + 8 + length
        if end + 4 > len(data):
            break
        struct.pack_into(">I", data, end, zlib.crc32(data[place + 4 : end]))
        place = end + 4
    return bytes(data)


def _changed_png(content, generator):
    data = changed(content, generator, _MARKS["png"])
    return mended_png(data) if generator.random() < 0.7 else data


def picture_formats():
    """The formats of pictures, by file extension."""
    changes = {"png": _changed_png}
    return [
        Format(name, sound, changes.get(name, _by_bytes(name)))
        for name, sound in pictures().items()
    ]


def _header(kind, width, height):
    """The header chunk of a PNG or WebP of a given size, with little after it."""
    if kind == "png":
        size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        chunks = ((b"IHDR", size), (b"IDAT", zlib.compress(bytes(99))), (b"IEND", b""))
        parts = [
            struct.pack(">I", len(data)) + name + data + bytes(4)
            for name, data in chunks
        ]
        return mended_png(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    size = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + size
    return b"RIFF" + struct.pack("<I", len(body)) + body


def enormous(kind, width, height):
    """A picture of a few bytes whose header claims a huge size."""
    if kind in ("png", "webp"):
        return _header(kind, width, height)
    if kind == "ppm":
        return f"P6 {width} {height} 255\n".encode() + bytes(99)
    small = _saved(np.zeros((6, 5, 3), np.uint8), kind)
    # Position and encoding of width and height.
    place, form = {
        "gif": (6, "<HH"),
        "bmp": (18, "<II"),
        "jpeg": (small.index(b"\xff\xc0") + 5 if kind == "jpeg" else 0, ">HH"),
    }.get(kind, (0, ""))
    data = bytearray(small)
    if kind == "tiff":
        for tag, number in ((256, width), (257, height)):
            entry = re.escape(struct.pack("<H", tag)) + b"[\x03\x04]\0\1\0\0\0"
            at = re.search(entry, data).start() + 2
            struct.pack_into("<HII", data, at, 4, 1, number)
        return bytes(data)
    both = (height, width) if kind == "jpeg" else (width, height)
    struct.pack_into(form, data, place, *both)
    return bytes(data)


# Arrays.


def npz_of(**arrays):
    """The bytes of a `.npz` file."""
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    return content.getvalue()


def npz_formats(sound):
    """Archives of arrays, changed as a whole and within their members."""
    return [
        Format("npz", sound, _by_bytes("zip")),
        Format("npy in npz", sound, changed_member(_by_bytes("npy"))),
    ]


def npy(descr, shape, data=b"", order="False"):
    """A `.npy` file with the given header, which need not be true."""
    header = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n"
    length = struct.pack("<H", len(header.encode("latin1")))
    return b"\x93NUMPY\x01\x00" + length + header.encode("latin1") + data


# Descr, shape and bytes of arrays that are not to be read.
LYING_HEADERS = {
    "more than memory": ("'<f8'", "(1000000000000,)", bytes(64)),
    "beyond 64 bits": ("'|u1'", f"({2**70},)", bytes(64)),
    "nothing of what is beyond 64 bits": ("'|u1'", f"({2**70}, 0)", b""),
    "negative": ("'|u1'", "(-2, -3)", bytes(6)),
    "one negative": ("'|u1'", "(-6,)", bytes(6)),
    "too few bytes": ("'|u1'", "(7,)", bytes(6)),
    "too many bytes": ("'|u1'", "(5,)", bytes(6)),
    "no list": ("'|u1'", "6", bytes(6)),
    "floats": ("'|u1'", "(6.0,)", bytes(6)),
    "flags": ("'|u1'", "(True, True)", b"\0"),
    "33 axes too many": ("'|u1'", str((1,) * 97), b"\0"),
    "texts without letters": ("'<U0'", "(1000000000000,)", b""),
    "bytes without bytes": ("'|S0'", "(1000000000000,)", b""),
    "nothing": ("'|V0'", "(1000000000000,)", b""),
    "objects": ("'|O'", "(2,)", b"\x80\x04N."),
    "records of objects": ("[('a', '|O')]", "(1,)", b"\x80\x04N."),
    "records": ("[('a', '<f4'), ('b', '<i8')]", "(1,)", bytes(12)),
    "arrays of arrays": ("('<f8', (100000, 100000))", "(1,)", bytes(8)),
    "an unknown kind": ("'<q9'", "(1,)", bytes(9)),
    "a number for a kind": ("8", "(1,)", bytes(8)),
    "nested kinds": ("[" * 50 + "]" * 50, "(1,)", bytes(8)),
    "dates": ("'<M8[ns]'", "(2,)", bytes(16)),
    "complex numbers": ("'<c16'", "(2,)", bytes(32)),
}


def streamed(members):
    """An archive as written to a pipe: the sizes come after the members."""

    class Pipe(io.BytesIO):
        def seekable(self):
            return False

        def tell(self):
            raise OSError

        def seek(self, *where):
            raise OSError

    content = Pipe()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return content.getvalue()


def wide(members):
    """An archive with sizes of 64 bits."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in members.items():
            with archive.open(name, "w", force_zip64=True) as member:
                member.write(data)
    return content.getvalue()


# What is in the place of a file.
SPECIAL = {
    "pipe": os.mkfifo,
    "socket": lambda path: os.mknod(path, stat.S_IFSOCK | 0o600),
    "device": lambda path: path.symlink_to("/dev/zero"),
    "folder": Path.mkdir,
    "link to nothing": lambda path: path.symlink_to("nowhere"),
    "link to itself": lambda path: path.symlink_to(path.name),
}


# Models.


def keras_formats(sound):
    """`.keras` files, changed as a whole, in their config and in their weights."""
    return [
        Format("keras", sound, _by_bytes("zip")),
        Format("config in keras", sound, changed_member(changed_json, "config.json")),
        Format("hdf5 in keras", sound, changed_member(_by_bytes("hdf5"), ".h5")),
    ]


def changed_graph(content, generator):
    """A SavedModel with one to three changed fields, or changed bytes."""
    if generator.random() < 0.3:
        return changed(content, generator, _MARKS["protobuf"])
    saved = saved_model_pb2.SavedModel.FromString(content)
    for _ in range(int(generator.integers(1, 4))):
        fields = [*_fields(saved)]
        _change_field(*fields[int(generator.integers(len(fields)))], generator)
    return saved.SerializeToString(deterministic=True)


def _fields(message):
    """Each field that is set, nested ones included, with its message."""
    for field, value in message.ListFields():
        yield message, field
        kind = field.message_type
        if kind is None:
            continue
        inner = [value]
        if _is_list(value):
            inner = list(value)
        elif kind.GetOptions().map_entry:
            # The order of a map differs from process to process.
            inner = [value[key] for key in sorted(value)]
        for each in inner:
            if isinstance(each, Message):
                yield from _fields(each)


def _is_list(value):
    return hasattr(value, "append")


def _change_field(message, field, generator):
    value = getattr(message, field.name)
    is_list = _is_list(value)
    if field.message_type is not None or generator.random() < 0.2:
        if is_list and len(value):
            place = int(generator.integers(len(value)))
            if generator.random() < 0.5:
                del value[place]
            else:
                value.extend([value[place]])
        else:
            message.ClearField(field.name)
        return
    number = int(generator.choice([0, 1, -1, 2, 9, 2**31 - 1, -(2**31)]))
    nasty = [number, abs(number), number / 3, bool(number % 2)]
    nasty += ["", "none", "../../etc/passwd", "\x1b[2J", "x" * 5000, b"", b"\xff" * 9]
    for other in generator.permutation(np.array(nasty, object)):
        # Any value that the field accepts.
        with contextlib.suppress(TypeError, ValueError):
            if is_list:
                value[int(generator.integers(len(value)))] = other
            else:
                setattr(message, field.name, other)
            return


def formats_of(name, sound, kind):
    """A format of one kind of bytes: "json", "graph" or one of the marks."""
    changes = {"json": changed_json, "graph": changed_graph}
    return Format(name, sound, changes.get(kind) or _by_bytes(kind))
