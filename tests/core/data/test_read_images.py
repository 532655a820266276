import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from keras_advdef.core import untrusted
from keras_advdef.core.data._read_images import read_images as read_floats


@pytest.fixture
def save(tmp_path):
    def save(name, pixels, **options):
        Image.fromarray(np.asarray(pixels, np.uint8)).save(tmp_path / name, **options)
        return tmp_path / name

    return save


def read_images(paths):
    """Returns the images as whole numbers, after a check that the floats are exact."""
    found = read_floats(paths)
    assert found.dtype == np.float32
    levels = np.rint(255 * found).astype(np.uint8)
    np.testing.assert_array_equal(levels / np.float32(255), found)
    return levels


def oriented(upright, orientation):
    """Returns the pixels of `upright` as a camera with that orientation stores them."""
    return {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, 3),
    }[orientation]


def png(depth, kind, lines, *chunks):
    """Returns a PNG with a header and chunks that Pillow does not write."""

    def chunk(name, data):
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    width = 8 * len(lines[0]) // depth // {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
    header = struct.pack(">IIBBBBB", width, len(lines), depth, kind, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + line for line in lines))
    parts = [(b"IHDR", header), *chunks, (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


class TestReadImages:
    def test_order_and_channels(self, save):
        grey = save("grey.png", np.arange(12).reshape(3, 4))
        colour = save("colour.png", np.arange(36).reshape(3, 4, 3))
        alone = read_images([grey])
        assert alone.shape == (1, 3, 4, 1)
        np.testing.assert_array_equal(alone[0, ..., 0], np.arange(12).reshape(3, 4))
        both = read_images([colour, grey])
        np.testing.assert_array_equal(both[0], np.arange(36).reshape(3, 4, 3))
        for channel in range(3):
            np.testing.assert_array_equal(both[1, ..., channel], alone[0, ..., 0])

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize(
        ("name", "options", "most"),
        [
            ("a.png", {}, 0),
            ("a.tiff", {}, 0),
            ("a.tif", {"compression": "tiff_lzw"}, 0),
            ("a.webp", {"lossless": True}, 0),
            ("a.jpg", {"quality": 100}, 2),
        ],
    )
    @pytest.mark.parametrize("channels", [(), (3,)])
    def test_turned_as_the_camera_says(
        self, save, orientation, name, options, most, channels
    ):
        upright = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
        stored = oriented(upright, orientation)
        if channels:
            upright, stored = np.stack([upright] * 3, -1), np.stack([stored] * 3, -1)
        exif = Image.Exif()
        exif[0x0112] = orientation
        found = read_images([save(name, stored, exif=exif, **options)])[0]
        wrong = found.squeeze() if not channels and found.shape[-1] == 1 else found
        expected = upright if wrong.ndim == upright.ndim else upright[..., np.newaxis]
        assert wrong.shape[:2] == (3, 4)
        assert np.abs(wrong.astype(int) - expected).max() <= most

    def test_sizes_are_compared_as_turned(self, save):
        exif = Image.Exif()
        exif[0x0112] = 6
        turned = save("turned.png", np.zeros((4, 3)), exif=exif)
        plain = save("plain.png", np.zeros((3, 4)))
        assert read_images([plain, turned]).shape == (2, 3, 4, 1)
        with pytest.raises(ValueError, match=r"4x3; .*|turned\.png of 4x3"):
            read_images([save("other.png", np.zeros((4, 3))), turned])

    def test_photographs_with_a_preview(self, tmp_path):
        frames = [Image.fromarray(np.full((8, 8), level, np.uint8)) for level in (9, 1)]
        path = tmp_path / "photo.jpg"
        frames[0].save(path, format="MPO", save_all=True, append_images=frames[1:])
        assert abs(int(read_images([path])[0].mean()) - 9) <= 1

    def test_headers_come_before_pixels(self, save, tmp_path, monkeypatch):
        paths = [save(f"{index}.png", np.zeros((100, 100))) for index in range(3)]
        # The last one has a good header and no pixels.
        paths[2].write_bytes(paths[2].read_bytes()[:60])
        monkeypatch.setattr(untrusted, "memory_budget", lambda: 239_999)
        text = r"3 images, the first of 100x100.*take 234 KiB"
        with pytest.raises(ValueError, match=text):
            read_images(paths)
        monkeypatch.setattr(untrusted, "memory_budget", lambda: 240_000)
        with pytest.raises(ValueError, match=r"readable images.*2\.png"):
            read_images(paths)

    @pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp", "a.tiff"])
    def test_frames_are_not_chosen_in_silence(self, tmp_path, name):
        frames = [Image.fromarray(np.full((8, 8), level, np.uint8)) for level in (9, 1)]
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        with pytest.raises(ValueError, match="It has several frames"):
            read_images([tmp_path / name])

    def test_pages_are_not_counted(self, tmp_path, monkeypatch):
        # Pillow compares each page with all before it: minutes for a large file.
        def counted(image):
            raise OSError("counted")

        monkeypatch.setattr(TiffImageFile, "n_frames", property(counted))
        self.test_frames_are_not_chosen_in_silence(tmp_path, "a.tiff")

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("grey.png", png(16, 0, [bytes(8)] * 3)),
            ("grey_alpha.png", png(16, 4, [bytes(16)] * 3)),
            ("colour.png", png(16, 2, [bytes(24)] * 3)),
            ("colour_alpha.png", png(16, 6, [bytes(32)] * 3)),
            ("grey.ppm", b"P5 4 3 65535\n" + bytes(24)),
            ("colour.ppm", b"P6 4 3 65535\n" + bytes(72)),
            ("colour_text.ppm", b"P3 1 1 256\n 1 2 3\n"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_more_than_8_bits_are_not_cut_in_silence(self, tmp_path, name, content):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(
            ValueError, match="Convert it to 8 bits per channel; it has"
        ):
            read_images([tmp_path / name])

    @pytest.mark.parametrize(
        ("name", "content", "expected"),
        [
            ("1.png", png(1, 0, [b"\xa5"]), [255, 0, 255, 0, 0, 255, 0, 255]),
            ("2.png", png(2, 0, [b"\x1b"]), [0, 85, 170, 255]),
            ("4.png", png(4, 0, [b"\x0f\x53"]), [0, 255, 85, 51]),
            ("seven.pgm", b"P5 4 1 7\n\0\1\6\7", [0, 36, 219, 255]),
            ("bits.pbm", b"P1 4 1\n1 0 1 0\n", [0, 255, 0, 255]),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_fewer_bits_fill_the_range(self, tmp_path, name, content, expected):
        (tmp_path / name).write_bytes(content)
        assert read_images([tmp_path / name]).ravel().tolist() == expected

    def test_palettes_become_their_colours(self, tmp_path):
        colours = bytes([9, 8, 7, 255, 0, 128])
        content = png(8, 3, [b"\0\1\0"], (b"PLTE", colours))
        (tmp_path / "palette.png").write_bytes(content)
        expected = [[[9, 8, 7], [255, 0, 128], [9, 8, 7]]]
        assert read_images([tmp_path / "palette.png"])[0].tolist() == expected

    def test_colours_of_print(self, tmp_path):
        ink = np.array([[[0, 0, 0, 0], [255, 0, 0, 0], [0, 0, 0, 255]]], np.uint8)
        Image.fromarray(ink, "CMYK").save(tmp_path / "print.tiff")
        expected = [[[255, 255, 255], [0, 255, 255], [0, 0, 0]]]
        assert read_images([tmp_path / "print.tiff"])[0].tolist() == expected

    @pytest.mark.parametrize("width", [3, 300])
    def test_wide_colours(self, save, width):
        pixels = np.arange(2 * width * 3).reshape(2, width, 3) % 256
        for name in ("a.bmp", "a.ppm", "a.tiff"):
            assert np.array_equal(read_images([save(name, pixels)])[0], pixels)

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            (png(8, 4, [b"\x09\xff\x08\x7f"]), [[9], [8]]),
            (png(8, 6, [b"\1\2\3\xff\4\5\6\0"]), [[1, 2, 3], [4, 5, 6]]),
            (png(8, 0, [b"\x09\x08"], (b"tRNS", b"\0\x08")), [[9], [8]]),
            (
                png(8, 3, [b"\0\1"], (b"PLTE", bytes(range(6))), (b"tRNS", b"\xff\0")),
                [[0, 1, 2], [3, 4, 5]],
            ),
        ],
        ids=["grey", "colour", "key", "palette"],
    )
    def test_transparency_is_told(self, tmp_path, content, expected):
        for name in ("0.png", "1.png"):
            (tmp_path / name).write_bytes(content)
        paths = sorted(tmp_path.iterdir())
        with pytest.warns(UserWarning, match=r"Of 2 images, 2 are.*0\.png\. Their"):
            found = read_images(paths)
        assert found[1, 0].tolist() == expected

    def test_opaque_images_are_silent(self, tmp_path):
        content = png(8, 6, [b"\1\2\3\xff\4\5\6\xff"])
        (tmp_path / "opaque.png").write_bytes(content)
        expected = [[1, 2, 3], [4, 5, 6]]
        assert read_images([tmp_path / "opaque.png"])[0, 0].tolist() == expected

    def test_only_common_formats_are_opened(self, tmp_path):
        # Pillow would run Ghostscript on it.
        content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 3\n%%EndComments\n"
        (tmp_path / "program.png").write_bytes(content)
        with pytest.raises(ValueError, match=r"program\.png.*cannot identify"):
            read_images([tmp_path / "program.png"])
