"""Seconds per image and peak memory of PGD-10 from 100 to 10 000 images.

python benchmarks/growth_speed.py
"""

import argparse
import json
import math
import resource
import subprocess
import sys
import time
import tracemalloc

import keras
import numpy as np
from timing import parse_arguments, print_report, verdict

from keras_advdef.attacks.pgd import PGD

COUNTS = (100, 1_000, 10_000)
BATCH_SIZE = 100
# After so many batches TensorFlow's allocator takes no more memory.
WARM_UP = 20
SHAPE = (32, 32, 3)
EPSILON = 8 / 255
STEPS = 10
TIME_LIMIT = 1.1
# What an allocator keeps varies by a few megabytes.
GROWTH_LIMIT = 16.0
# In batches.
ARRAYS_LIMIT = 2
BATCH_BYTES = 4 * BATCH_SIZE * math.prod(SHAPE)
MEGABYTE = 2**20


def small_network() -> keras.Model:
    """Returns a network so small that the attack decides time and memory."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.Conv2D(8, 3, strides=2, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10),
        ]
    )


def measure(count: int) -> dict[str, float]:
    """Returns what one call costs in this process, which has no other work.

    Args:
        count: Number of images.

    Returns:
        Seconds of the call; peak memory of the process in bytes, without the images
        and the result; and peak memory of Python objects and NumPy arrays in bytes,
        measured in another such call, without the result.
    """
    generator = np.random.default_rng(0)
    images = generator.random((count, *SHAPE), dtype=np.float32)
    labels = generator.integers(0, 10, count)
    model, attack = small_network(), PGD(EPSILON, steps=STEPS)
    options = {"seed": 0, "batch_size": BATCH_SIZE, "verbose": 0}
    for _ in range(WARM_UP):
        attack.generate(model, images[:BATCH_SIZE], labels[:BATCH_SIZE], **options)
    start = time.perf_counter()
    result = attack.generate(model, images, labels, **options)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    attack.generate(model, images, labels, **options)
    arrays = tracemalloc.get_traced_memory()[1] - result.nbytes
    # Linux counts in kilobytes, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    rest = peak * unit - images.nbytes - result.nbytes
    return {"seconds": seconds, "rest": rest, "arrays": arrays}


def in_fresh_process(count: int) -> dict[str, float]:
    """Returns what `measure` returns in a new process."""
    command = [sys.executable, __file__, "--measure", str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds an option for the fresh processes."""
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)


def main() -> None:
    """Runs each count in its own processes and prints the table."""
    arguments = parse_arguments(
        "Growth with the number of images", rounds=3, add_options=add_options
    )
    if arguments.measure:
        print(json.dumps(measure(arguments.measure)))
        return
    counts = COUNTS[:2] if arguments.smoke else COUNTS
    rounds = [list(map(in_fresh_process, counts)) for _ in range(arguments.rounds)]
    least = [
        {key: min(one[index][key] for one in rounds) for key in rounds[0][index]}
        for index in range(len(counts))
    ]
    rows = []
    for count, taken in zip(counts, least, strict=True):
        ratio = taken["seconds"] / count / (least[0]["seconds"] / counts[0])
        growth = (taken["rest"] - least[0]["rest"]) / MEGABYTE
        arrays = taken["arrays"] / MEGABYTE
        cells = [f"{count}", f"{1e3 * taken['seconds'] / count:.3f} ms", f"{ratio:.2f}"]
        cells += [*verdict(ratio, TIME_LIMIT), f"{growth:+.1f} MB"]
        cells += [*verdict(growth, GROWTH_LIMIT, " MB"), f"{arrays:.2f} MB"]
        rows.append(
            [*cells, *verdict(arrays, ARRAYS_LIMIT * BATCH_BYTES / MEGABYTE, " MB")]
        )
    header = ["images", "each", "ratio", "target", ""]
    print_report(
        f"PGD-{STEPS} with `generate`, batches of {BATCH_SIZE}",
        [*header, "process", "target", "", "arrays", "target", ""],
        rows,
        notes=f"{SHAPE} noise and a small network; the smallest values of "
        f'{arguments.rounds} fresh processes. "process" is the growth\nof peak memory, '
        "without images and result, over the first row. "
        '"arrays" is the peak of what Python and\nNumPy allocate besides the result; '
        f"a batch takes {BATCH_BYTES / MEGABYTE:.2f} MB.",
    )


if __name__ == "__main__":
    main()
