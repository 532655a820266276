import numpy as np
import pytest
from PIL import Image

from keras_advdef.cli.read_images import read_images
from keras_advdef.core import untrusted


@pytest.fixture
def save(tmp_path):
    def save(name, pixels, **options):
        Image.fromarray(np.asarray(pixels, np.uint8)).save(tmp_path / name, **options)
        return tmp_path / name

    return save


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

    @pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 3), (8, 1)])
    def test_turned_as_the_camera_says(self, save, orientation, turns):
        stored = np.arange(12).reshape(3, 4)
        exif = Image.Exif()
        exif[0x0112] = orientation
        found = read_images([save("turned.png", stored, exif=exif)])
        np.testing.assert_array_equal(found[0, ..., 0], np.rot90(stored, turns))

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
        monkeypatch.setattr(untrusted, "memory_budget", lambda: 149_999)
        text = r"3 images, the first of 100x100.*take 146 KiB"
        with pytest.raises(ValueError, match=text):
            read_images(paths)
        monkeypatch.setattr(untrusted, "memory_budget", lambda: 150_000)
        with pytest.raises(ValueError, match=r"readable images.*2\.png"):
            read_images(paths)

    def test_frames_are_not_chosen_in_silence(self, tmp_path):
        frames = [Image.fromarray(np.full((8, 8), level, np.uint8)) for level in (9, 1)]
        path = tmp_path / "moving.gif"
        frames[0].save(path, save_all=True, append_images=frames[1:])
        with pytest.raises(ValueError, match="It holds 2 frames"):
            read_images([path])
