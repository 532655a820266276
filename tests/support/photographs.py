"""Images like photographs, and libjpeg's compression of them."""

import numpy as np
import tensorflow as tf


def photographs(shape, seed=0):
    """Blurred noise with edges, in whole levels, as JPEG expects."""
    generator = np.random.default_rng(seed)
    coarse = generator.uniform(0, 255, (shape[0], 5, 5, shape[3]))
    smooth = tf.image.resize(coarse, shape[1:3], method="bicubic").numpy()
    smooth += 40.0 * (smooth[..., :1] > 128) + generator.normal(0, 3, shape)
    return np.clip(np.rint(smooth), 0, 255).astype("uint8")


def noise(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype("uint8")


def by_libjpeg(images, quality, subsampling):
    """Encodes and decodes with TensorFlow's libjpeg at its default precision."""
    coded = []
    for image in images:
        file = tf.io.encode_jpeg(
            image,
            quality=quality,
            chroma_downsampling=subsampling == "4:2:0",
            format="grayscale" if image.shape[-1] == 1 else "rgb",
        )
        decoded = tf.io.decode_jpeg(file, dct_method="INTEGER_ACCURATE")
        coded.append(decoded.numpy())
    return np.stack(coded)
