"""Total variation minimisation against scikit-image and ART, at equal objectives.

python -m pip install scikit-image==0.26.0 -e ".[crosscheck]"
python benchmarks/variation_speed.py --data cifar10-20k.npz
"""

import argparse
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from timing import interleave, parse_arguments, print_report, verdict

from keras_advdef.layers._compiled import compiled
from keras_advdef.layers._total_variation import least_variation, total_variation

COUNTS = {32: 128, 224: 32}
SMOKE_COUNT = 4
DATA_SIDE = 32
WEIGHTS = (0.03, 0.1)
# Chambolle's iterations, and steps of the layer until its objective is lower.
ITERATIONS, STEPS = 30, (5, 10, 15, 20, 30, 50, 100, 200)
KEEP = 0.5
ART_ITERATIONS = 10
SKIMAGE_FACTOR, ART_FACTOR = 0.5, 20.0


def images_of(path: str | None, side: int, count: int) -> np.ndarray:
    """Returns test images of an .npz file if they have that size, or smooth noise."""
    if path and side == DATA_SIDE:
        with np.load(path, allow_pickle=False) as data:
            return data["x_test"][:count].astype(np.float32) / 255
    coarse = np.random.default_rng(0).uniform(0, 1, (count, 8, 8, 3))
    return tf.image.resize(coarse, (side, side)).numpy().astype(np.float32)


def objective(
    near: Any, images: np.ndarray, mask: np.ndarray, *, weight: float
) -> float:
    """Returns the objective, summed over the images."""
    near = tf.cast(near, tf.float32)
    fit = 0.5 * tf.reduce_sum(mask * (near - images) ** 2)
    return float(fit + weight * tf.reduce_sum(total_variation(near)))


@compiled
def solved(
    images: tf.Tensor, mask: tf.Tensor, *, keep: float, weight: float, steps: int
) -> tf.Tensor:
    """Returns what the layer computes."""
    return least_variation(images, mask, keep=keep, weight=weight, steps=steps)


def by_skimage(images: np.ndarray, weight: float) -> np.ndarray:
    """Returns scikit-image's result, image by image."""
    from skimage.restoration import denoise_tv_chambolle

    options = {"weight": weight, "eps": 0.0, "max_num_iter": ITERATIONS}
    return np.stack(
        [denoise_tv_chambolle(each, channel_axis=-1, **options) for each in images]
    )


def by_art(images: np.ndarray, weight: float) -> np.ndarray:
    """Returns ART's result; `art_mask` returns the mask it draws."""
    from art.defences.preprocessor import TotalVarMin

    defence = TotalVarMin(
        prob=KEEP, lamb=weight, max_iter=ART_ITERATIONS, clip_values=(0, 1)
    )
    np.random.seed(0)  # noqa: NPY002 - ART draws from the global generator
    return defence(images)[0]


def art_mask(images: np.ndarray) -> np.ndarray:
    """Returns the mask of `by_art`."""
    np.random.seed(0)  # noqa: NPY002
    drawn = [np.random.rand(*each.shape) for each in images]  # noqa: NPY002
    return (np.stack(drawn) < KEEP).astype(np.float32)


def row(
    name: str,
    images: np.ndarray,
    *,
    weight: float,
    peer: Callable[[np.ndarray, float], np.ndarray],
    rounds: int,
) -> list[str]:
    """Returns a table row: the fewest steps that reach the peer's objective."""
    is_art = peer is by_art
    keep = KEEP if is_art else 1.0
    mask = art_mask(images) if is_art else np.ones_like(images)
    theirs = objective(peer(images, weight), images, mask, weight=weight)
    setting: dict[str, Any] = {"keep": keep, "weight": weight}
    for steps in STEPS:
        near = solved(images, mask, steps=steps, **setting)
        ours = objective(near, images, mask, weight=weight)
        if ours <= theirs:
            break
    tensors = tf.constant(images), tf.constant(mask)
    timed = interleave(
        lambda: {
            "ours": lambda: solved(*tensors, steps=steps, **setting).numpy(),
            "theirs": lambda: peer(images, weight),
        },
        rounds=rounds,
    )
    least = {key: float(wall.min()) for key, (wall, _) in timed.items()}
    factor = least["theirs"] / least["ours"]
    cells = [name, f"{weight:g}", f"{keep:g}", f"{theirs:.2f}", f"{ours:.2f}"]
    cells += [str(steps), f"{1e3 * least['theirs']:.0f} ms"]
    cells += [f"{1e3 * least['ours']:.1f} ms", f"{factor:.1f}"]
    limit = ART_FACTOR if is_art else SKIMAGE_FACTOR
    return [*cells, *verdict(factor, limit, at_least=True)]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the images."""
    parser.add_argument("--data", help=".npz with `x_test` of shape (count, 32, 32, 3)")


def main() -> None:
    """Compares with what is installed and prints the table."""
    arguments = parse_arguments(
        "Total variation minimisation", rounds=3, add_options=add_options
    )
    counts = {32: SMOKE_COUNT} if arguments.smoke else COUNTS
    peers = {"skimage": ("scikit-image", by_skimage), "art": ("ART", by_art)}
    rows = [
        [
            f"{count} x {side}x{side}x3",
            *row(
                name,
                images_of(arguments.data, side, count),
                weight=weight,
                peer=peer,
                rounds=arguments.rounds,
            ),
        ]
        for side, count in counts.items()
        for module, (name, peer) in peers.items()
        if importlib.util.find_spec(module)
        for weight in WEIGHTS
    ]
    header = ["images", "peer", "weight", "keep", "its objective", "ours", "our steps"]
    print_report(
        "Total variation minimisation",
        [*header, "it takes", "ours", "ratio", "target", ""],
        rows,
        notes="The objective is 1/2 sum mask (z - x)^2 + weight * TV(z), summed over "
        "the images. Ours takes the first of a few numbers of\nsteps at which its "
        "objective is not higher than the peer's. The ratio is the peer's time over "
        f"ours. scikit-image: Chambolle, {ITERATIONS} iterations.\nART: `TotalVarMin`, "
        f"at most {ART_ITERATIONS} iterations; at weight 0.03 its optimiser stops "
        "where it starts and returns the image unchanged.\nImages of 224x224 are "
        "smooth noise.",
    )


if __name__ == "__main__":
    main()
