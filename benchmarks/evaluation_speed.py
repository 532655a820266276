"""Start of an evaluation, its cost beside AutoAttack alone, and its memory.

    python benchmarks/evaluation_speed.py --model mnist_adv.keras --data mnist.npz

Every measurement runs in its own process. Both attack the same images in bfloat16; the
evaluation adds the naive attack, the sanity checks, the curve and the smallest
perturbations. Of a net of two layers nearly all is tracing.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

import keras
import numpy as np
from madry_network import add_input_options, described, images_and_labels, network
from timing import parse_arguments, print_report, verdict

from keras_advdef.attacks import PGD, AutoAttack
from keras_advdef.evaluation import evaluate_robustness

EPSILON = 0.3
SMOKE_IMAGES = 8
MEMORY_COUNTS = (1_000, 10_000)
BATCH_SIZE = 128
LIMIT = 1.15
# Processor seconds of a quick evaluation of a net of two layers.
START_LIMIT = 6.0
START_IMAGES, START_EPSILON = 40, 0.1
MEGABYTE = 2**20


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the inputs, and an option for the fresh processes."""
    add_input_options(parser)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--measure", help=argparse.SUPPRESS)


def measure(arguments: argparse.Namespace) -> dict[str, float]:
    """Returns wall and processor seconds, and peak memory in MB, of one task.

    Of "start-" and a budget, what `start` returns.
    """
    task, _, size = arguments.measure.partition("-")
    if task == "start":
        return start(size)
    model = network(arguments)
    images, labels = images_and_labels(arguments, int(size))
    smoke = {"steps": 2, "queries": 10} if arguments.smoke else {}
    attack = AutoAttack(EPSILON, precision="bfloat16", **smoke)
    options = {"seed": 0, "batch_size": BATCH_SIZE, "verbose": 0}
    started = time.perf_counter(), time.process_time()
    if task == "auto":
        attack.generate(model, images, labels, **options)
    else:
        attacks = None
        if task == "memory":
            attacks = [PGD(EPSILON, steps=5)]
        elif arguments.smoke:
            attacks = attack.attacks
        evaluate_robustness(
            model,
            images,
            labels,
            epsilon=EPSILON,
            budget="full" if task == "memory" else "standard",
            attacks=attacks,
            precision="bfloat16",
            **options,
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in kilobytes, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "wall": time.perf_counter() - started[0],
        "processor": time.process_time() - started[1],
        "peak": peak * unit / MEGABYTE,
        "images": images.astype(np.float32).nbytes / MEGABYTE,
    }


def start(budget: str) -> dict[str, float]:
    """Returns processor seconds and traces of an evaluation of a net of two layers."""
    layers = keras.layers
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(10),
        ]
    )
    generator = np.random.default_rng(0)
    images = generator.random((START_IMAGES, 8, 8, 1), dtype=np.float32)
    labels = model.predict(images, verbose=0).argmax(axis=-1)
    started = time.process_time()
    report = evaluate_robustness(
        model, images, labels, epsilon=START_EPSILON, budget=budget, seed=0, verbose=0
    )
    processor = time.process_time() - started
    return {"processor": processor, "traces": report.data["run"]["traces"]}


def in_fresh_process(task: str) -> dict[str, float]:
    """Returns what `measure` returns in a new process."""
    command = [sys.executable, __file__, *sys.argv[1:], "--measure", task]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measures and prints the tables."""
    arguments = parse_arguments(
        "Cost of an evaluation", rounds=1, add_options=add_options
    )
    if arguments.measure:
        print(json.dumps(measure(arguments)))
        return
    report_start(arguments)
    report_cost(arguments)
    report_memory(arguments)


def report_start(arguments: argparse.Namespace) -> None:
    """Measures evaluations that are nearly all tracing, and prints their table."""
    rows = []
    for budget in ("quick",) if arguments.smoke else ("quick", "standard"):
        taken = [in_fresh_process(f"start-{budget}") for _ in range(arguments.rounds)]
        least = min(each["processor"] for each in taken)
        limit = START_LIMIT if budget == "quick" else None
        traces = f"{taken[0]['traces']:.0f}"
        rows.append([budget, f"{least:.2f} s", *verdict(least, limit), traces])
    print_report(
        f"Evaluations of {START_IMAGES} images of 8x8 by a net of two layers",
        ["budget", "processor", "target", "", "traces"],
        rows,
        notes=f"linf {START_EPSILON}, without imports.",
    )


def report_cost(arguments: argparse.Namespace) -> None:
    """Measures an evaluation and AutoAttack in turns, and prints their table."""
    count = SMOKE_IMAGES if arguments.smoke else arguments.images
    tasks = (f"auto-{count}", f"evaluation-{count}")
    rounds = [
        [in_fresh_process(each) for each in tasks] for _ in range(arguments.rounds)
    ]
    least = [
        {key: min(one[index][key] for one in rounds) for key in ("wall", "processor")}
        for index in range(2)
    ]
    rows = []
    for name, taken in zip(("AutoAttack", "evaluation"), least, strict=True):
        ratio = taken["wall"] / least[0]["wall"]
        processor = taken["processor"] / least[0]["processor"]
        judged = ("-", "-") if name == "AutoAttack" else verdict(processor, LIMIT)
        cells = [name, f"{taken['wall']:.1f} s", f"{ratio:.3f}", f"{processor:.3f}"]
        rows.append([*cells, *judged])
    print_report(
        f"Standard evaluation of {count} images, bfloat16",
        ["", "least", "ratio", "processor", "target", ""],
        rows,
        notes=f"{described(arguments)}, linf {EPSILON}; tracing is part of both.",
    )


def report_memory(arguments: argparse.Namespace) -> None:
    """Measures the memory of evaluations, and prints their table."""
    counts = (SMOKE_IMAGES,) if arguments.smoke else MEMORY_COUNTS
    memory = [in_fresh_process(f"memory-{each}") for each in counts]
    print_report(
        "Peak memory of an evaluation with PGD-5",
        ["images", "peak", "the images alone"],
        [
            [str(each), f"{found['peak']:.0f} MB", f"{found['images']:.0f} MB"]
            for each, found in zip(counts, memory, strict=True)
        ],
        notes="Of the whole process, which holds the images as float32.",
    )


if __name__ == "__main__":
    main()
