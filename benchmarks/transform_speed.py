"""Input transformations inside the model against the usual tools outside it.

python benchmarks/transform_speed.py
"""

import argparse
import functools
import io
import math
import resource
import sys
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from PIL import Image
from scipy import ndimage
from timing import interleave, parse_arguments, print_report, verdict

from keras_advdef.layers import (
    ImageQuilting,
    InputTransform,
    JPEGCompression,
    MedianSmoothing,
    NonLocalMeans,
    TotalVariationMinimization,
)

SIZES = {"128 x 32x32x3": (128, 32, 32, 3), "32 x 224x224x3": (32, 224, 224, 3)}
SMALL = 32
SMOKE = {"4 x 16x16x3": (4, 16, 16, 3)}
QUALITY = 75
PATCHES = 20_000
# Images per second of the fastest other image quilting, at 32x32 with as many patches.
# The target is relative to this figure, which is not measured here.
PEER_QUILTING = 33.0
QUILTING_FACTOR = 3.0
# The layer should be at least so many times as fast as the tool, by layer and size.
TARGETS = {
    ("JPEG", 32): 2.0,
    ("JPEG", 224): 1.0,
    ("median 3x3", 32): 4.0,
    ("median 3x3", 224): 4.0,
}


def photographs(shape: tuple[int, ...]) -> np.ndarray:
    """Returns smooth images with some noise: float32 multiples of 1/255."""
    generator = np.random.default_rng(0)
    coarse = generator.uniform(0, 1, (shape[0], 8, 8, shape[3]))
    smooth = tf.image.resize(coarse, shape[1:3], method="bicubic").numpy()
    noisy = np.clip(smooth + generator.normal(0, 0.02, shape), 0, 1)
    return np.rint(255 * noisy).astype(np.float32) / np.float32(255)


def by_pillow(images: np.ndarray) -> np.ndarray:
    """Returns the images after Pillow's JPEG, one by one."""
    coded = np.empty_like(images)
    for index, image in enumerate(np.rint(255 * images).astype(np.uint8)):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=QUALITY)
        coded[index] = np.asarray(Image.open(file))
    return coded / np.float32(255)


def by_scipy(images: np.ndarray) -> np.ndarray:
    """Returns SciPy's medians over 3x3 pixels."""
    return ndimage.median_filter(images, size=(1, 3, 3, 1), mode="reflect")


def network(shape: tuple[int, ...], front: list[InputTransform]) -> keras.Model:
    """Returns a small convolutional network, compiled without `jit_compile`."""
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input(shape[1:]),
            *front,
            layers.Conv2D(16, 3, strides=2, activation="relu"),
            layers.Conv2D(32, 3, strides=2, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10),
        ]
    )
    model.compile(jit_compile=False)
    return model


def gradient_of(layer: InputTransform) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns a graph that runs a layer forward and backward."""

    @tf.function
    def run(images: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(images)
            total = tf.reduce_sum(layer(images) ** 2)
        return tape.gradient(total, images)

    return run


def candidates(
    make: Callable[[], InputTransform],
    tool: Callable[[np.ndarray], np.ndarray] | None,
    images: np.ndarray,
) -> dict[str, Callable[[], Any]]:
    """Returns the candidates: the layer in several uses, and the tool."""
    layer, tensor = make(), tf.constant(images)
    alone, backward = tf.function(layer), gradient_of(layer)
    bare, defended = network(images.shape, []), network(images.shape, [make()])
    options = {"batch_size": len(images), "verbose": 0}
    timed = {
        "alone": lambda: alone(tensor).numpy(),
        "gradient": lambda: backward(tensor).numpy(),
        "predict": lambda: defended.predict(images, **options),
        "bare predict": lambda: bare.predict(images, **options),
    }
    if tool is not None:
        timed["tool"] = lambda: tool(images)
    return timed


def made(name: str, images: np.ndarray) -> InputTransform:
    """Returns a layer by its name in the table."""
    if name == "JPEG":
        return JPEGCompression(QUALITY)
    if name == "median 3x3":
        return MedianSmoothing(3)
    if name == "non-local means":
        return NonLocalMeans()
    if name == "total variation":
        return TotalVariationMinimization(seed=0)
    layer = ImageQuilting(seed=0)
    layer.adapt(images, max_patches=PATCHES)
    return layer


# `variation_speed.py` compares total variation with its tools.
TOOLS = {
    "JPEG": by_pillow,
    "median 3x3": by_scipy,
    "non-local means": None,
    "total variation": None,
    "quilting": None,
}


def rows_of(
    name: str, title: str, images: np.ndarray, *, rounds: int
) -> list[list[str]]:
    """Returns the table rows of one layer at one size."""
    make = functools.partial(made, name, images)
    build = functools.partial(candidates, make, TOOLS[name], images)
    found = interleave(build, rounds=rounds)
    least = {key: float(wall.min()) for key, (wall, _) in found.items()}
    costs = {
        "alone": least["alone"],
        "inside `predict`": least["predict"] - least["bare predict"],
    }
    rows = []
    for key, cost in costs.items():
        compare = compared(name, images, cost=cost, tool=least.get("tool"))
        rows.append([name, title, key, ms(cost), *compare])
    rows.append(
        [name, title, "alone, with gradient", ms(least["gradient"]), *["-"] * 4]
    )
    both = " / ".join(f"{1e3 * least[key]:.1f}" for key in ("predict", "bare predict"))
    rows.append([name, title, "`predict` with / without", f"{both} ms", *["-"] * 4])
    return rows


def compared(
    name: str, images: np.ndarray, *, cost: float, tool: float | None
) -> list[str]:
    """Returns the tool's speed, the layer's in multiples of it, and the target."""
    side = images.shape[1]
    if tool is not None:
        # If a layer costs nothing, the difference of two times may be negative.
        factor = tool / cost if cost > 0 else math.inf
        shown, limit = ms(tool), TARGETS.get((name, side))
    elif name == "quilting":
        shown = f"{PEER_QUILTING:.0f} images/s at 32x32"
        factor = len(images) / cost / PEER_QUILTING
        limit = QUILTING_FACTOR if side == SMALL else None
    else:
        return ["-"] * 4
    return [shown, f"{factor:.1f}", *verdict(factor, limit, at_least=True)]


def ms(seconds: float) -> str:
    """Returns a duration in milliseconds."""
    return f"{1e3 * seconds:.1f} ms"


def peak() -> float:
    """Returns the peak memory of this process so far, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the choice of one layer."""
    parser.add_argument("--layer", choices=list(TOOLS), help="only this one")


def main() -> None:
    """Times the layers and prints the table."""
    arguments = parse_arguments(
        "Input transformations", rounds=3, add_options=add_options
    )
    sizes = SMOKE if arguments.smoke else SIZES
    names = [arguments.layer] if arguments.layer else list(TOOLS)
    rows, memory = [], []
    for title, shape in sizes.items():
        images = photographs(shape)
        for name in names:
            before = peak()
            rows += rows_of(name, title, images, rounds=arguments.rounds)
            memory.append(f"{name} {title} {peak() - before:+.0f} MB")
    header = ["layer", "images", "what", "ours", "tool", "ratio", "target", ""]
    print_report(
        "Input transformations",
        header,
        rows,
        notes="The fastest of all turns; the ratio is the tool's time over ours. The "
        "tools are Pillow and SciPy on arrays. The cost inside `predict` is the\n"
        "time of a small convolutional network with the layer minus the time without "
        "it, with `jit_compile=False`; a negative one is noise.\n"
        f"Quilting: a bank of {PATCHES} patches. Growth of the process's peak memory, "
        f"in this order: {'; '.join(memory)}.",
    )


if __name__ == "__main__":
    main()
