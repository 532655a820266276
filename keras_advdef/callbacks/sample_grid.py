"""SampleGrid: pictures of a generator's images during its training."""

import os
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.core.errors import checked_instance, checked_integer, invalid
from keras_advdef.core.files import atomic_write, write_errors_as
from keras_advdef.core.random_state import checked_seed
from keras_advdef.training import WassersteinGAN

_OWNER = "SampleGrid"
_CHANNELS = (1, 3)


class SampleGrid(keras.callbacks.Callback):
    """Writes a grid of a Wasserstein GAN's images to a PNG file every few epochs.

    The latents are the same each time, so that a cell of the grid shows how one image
    develops, also in a resumed run. The files are `epoch-0005.png` and so on, and are
    written atomically.

    Args:
        folder: Folder of the files; created if it does not exist.
        every: Epochs from one file to the next, at least 1.
        rows: Images from top to bottom, at least 1.
        columns: Images from left to right, at least 1.
        seed: Integer in `[0, 2**31)` that fixes the latents.

    Raises:
        TypeError: If the model that trains is not a `WassersteinGAN`.
        ValueError: If an argument is outside its bounds, `folder` is a file, or the
            images are neither grey nor RGB.

    Example:

    >>> import os, tempfile
    >>> generator = keras.Sequential([
    ...     keras.Input((3,)), keras.layers.Dense(4, activation="sigmoid"),
    ...     keras.layers.Reshape((2, 2, 1))])
    >>> critic = keras.Sequential([
    ...     keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(1)])
    >>> gan = keras_advdef.training.WassersteinGAN(
    ...     generator, critic, latent_dim=3, critic_steps=1)
    >>> gan.compile()
    >>> folder = tempfile.mkdtemp()
    >>> grid = keras_advdef.callbacks.SampleGrid(folder, every=1, rows=2, columns=3)
    >>> history = gan.fit(np.zeros((4, 2, 2, 1)), callbacks=[grid], verbose=0)
    >>> os.listdir(folder)
    ['epoch-0001.png']
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        every: int = 5,
        rows: int = 8,
        columns: int = 8,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.every = checked_integer(_OWNER, "every", every, low=1)
        self.rows = checked_integer(_OWNER, "rows", rows, low=1)
        self.columns = checked_integer(_OWNER, "columns", columns, low=1)
        if checked_seed(_OWNER, seed) is None:
            rule = "an integer, which gives every file the same latents"
            raise invalid(_OWNER, "seed", rule, seed)
        self.seed = seed

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Creates the folder, or raises if no grid can be written."""
        checked_instance(_OWNER, "model", self.model, WassersteinGAN)
        shape = self.model.image_shape
        if shape[-1] not in _CHANNELS:
            raise invalid(_OWNER, "model", "one of images of 1 or 3 channels", shape)
        if self.folder.exists() and not self.folder.is_dir():
            raise invalid(_OWNER, "folder", "a folder", str(self.folder))
        with write_errors_as(self._refusal):
            self.folder.mkdir(parents=True, exist_ok=True)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Writes a grid after every few epochs."""
        if (epoch + 1) % self.every:
            return
        images = self.model.sample(self.rows * self.columns, seed=self.seed)
        data = tf.io.encode_png(self._grid(images)).numpy()
        path = self.folder / f"epoch-{epoch + 1:04d}.png"
        with write_errors_as(self._refusal):
            atomic_write(path, lambda partial: partial.write_bytes(data))

    def _refusal(self, advice: str) -> ValueError:
        rule = "a folder that can be written to"
        return invalid(_OWNER, "folder", rule, str(self.folder), advice=advice)

    def _grid(self, images: np.ndarray) -> np.ndarray:
        """Returns one picture of all images, row by row, in 8 bits."""
        height, width, channels = images.shape[1:]
        grid = images.reshape(self.rows, self.columns, height, width, channels)
        grid = grid.transpose(0, 2, 1, 3, 4)
        grid = grid.reshape(self.rows * height, self.columns * width, channels)
        return np.rint(255.0 * np.clip(grid, 0.0, 1.0)).astype(np.uint8)
