"""Images per second of attacks and an evaluation, on one and two replicas and workers.

    python benchmarks/scale_out_speed.py --data mnist.npz

Workers are processes on this machine, of one thread each, as one replica of two is. So
two can be faster only where two cores are free.
"""

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import time

import keras
import numpy as np
import tensorflow as tf
from timing import parse_arguments, print_report

from keras_advdef.attacks.pgd import PGD
from keras_advdef.evaluation import evaluate_robustness

EPSILON = 0.1
STEPS = 10
BATCH_SIZE = 64
COUNT = 1024
EVALUATED = 400
REPLICAS = {"one device": 1, "two replicas": 2, "two workers": 2}


def strategy_of(kind: str) -> tf.distribute.Strategy | None:
    """Returns the strategy of this process."""
    if kind == "two workers":
        return tf.distribute.MultiWorkerMirroredStrategy()
    if kind == "two replicas":
        cpu = tf.config.list_physical_devices("CPU")[0]
        two = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(cpu, two)
        return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    return None


def network() -> keras.Model:
    """Returns a convolutional network."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 5, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 5, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(10),
        ]
    )


def load(path: str | None, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns images from 0 to 1, noise without a file, and labels."""
    if path is None:
        generator = np.random.default_rng(0)
        images = generator.random((count, 28, 28, 1), dtype=np.float32)
        return images, generator.integers(0, 10, count)
    with np.load(path, allow_pickle=False) as file:
        images = file["x_train"][:count, ..., None].astype("float32") / 255.0
        return images, file["y_train"][:count]


def measure(kind: str, arguments: argparse.Namespace) -> dict[str, float]:
    """Returns the seconds of an attack, once it is compiled, and of an evaluation."""
    # Before anything computes: it sets devices up.
    strategy = strategy_of(kind)
    keras.utils.set_random_seed(0)
    count = 32 if arguments.smoke else COUNT
    size = 8 if arguments.smoke else BATCH_SIZE
    evaluated = 16 if arguments.smoke else EVALUATED
    images, labels = load(arguments.data, count)
    attack, quiet = PGD(EPSILON, steps=STEPS), {"batch_size": size, "verbose": 0}
    scope = strategy.scope() if strategy else contextlib.nullcontext()
    with scope:
        model = network()
        seconds = []
        for _ in range(3):
            start = time.perf_counter()
            found = attack.generate(model, images, labels, seed=0, **quiet)
            seconds.append(time.perf_counter() - start)
        start = time.perf_counter()
        report = evaluate_robustness(
            model,
            images[:evaluated],
            # The labels that the network gives, so that there is much to attack.
            model(images[:evaluated]).numpy().argmax(axis=-1),
            epsilon=EPSILON / 10,
            budget="quick",
            **quiet,
        )
        whole = time.perf_counter() - start
    return {
        "attack": min(seconds[1:]) / count,
        "evaluation": whole,
        "sum": float(found.astype(np.float64).sum()),
        "accuracy": report.adaptive["accuracy"],
    }


def in_fresh_processes(kind: str, arguments: argparse.Namespace) -> dict[str, float]:
    """Returns what the slowest of the processes measured."""
    command = [sys.executable, __file__, "--measure", kind]
    command += ["--smoke"] * arguments.smoke
    command += ["--data", arguments.data] if arguments.data else []
    environment = {
        **os.environ,
        "TF_NUM_INTRAOP_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
    configs = [""]
    if kind == "two workers":
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(socket.socket()) for _ in range(2)]
            for each in sockets:
                each.bind(("127.0.0.1", 0))
            ports = [each.getsockname()[1] for each in sockets]
        workers = [f"127.0.0.1:{port}" for port in ports]
        tasks = [{"type": "worker", "index": index} for index in range(2)]
        configs = [
            json.dumps({"cluster": {"worker": workers}, "task": task}) for task in tasks
        ]
    running = [
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            text=True,
            env={**environment, **({"TF_CONFIG": config} if config else {})},
        )
        for config in configs
    ]
    found = [json.loads(each.communicate()[0].splitlines()[-1]) for each in running]
    return {key: max(each[key] for each in found) for key in found[0]}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the images, and an option for the fresh processes."""
    parser.add_argument("--data", help="MNIST, .npz in the layout of keras.datasets")
    parser.add_argument("--measure", choices=REPLICAS, help=argparse.SUPPRESS)


def main() -> None:
    """Measures each kind in its own processes and prints the table."""
    arguments = parse_arguments(
        "Attacks and evaluation on replicas and workers",
        rounds=3,
        add_options=add_options,
    )
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments)))
        return
    rounds = [
        {kind: in_fresh_processes(kind, arguments) for kind in REPLICAS}
        for _ in range(arguments.rounds)
    ]
    least = {
        kind: {key: min(each[kind][key] for each in rounds) for key in rounds[0][kind]}
        for kind in REPLICAS
    }
    first, rows = least["one device"], []
    for kind, taken in least.items():
        same = all(taken[key] == first[key] for key in ("sum", "accuracy"))
        rows.append(
            [
                kind,
                f"{1.0 / taken['attack']:.0f}",
                f"{first['attack'] / taken['attack']:.2f}",
                f"{taken['evaluation']:.1f} s",
                f"{first['evaluation'] / taken['evaluation']:.2f}",
                "yes" if same else "no",
            ]
        )
    print_report(
        f"Scale-out: PGD-{STEPS} and `evaluate_robustness`",
        ["", "images/s", "ratio", "evaluation", "ratio", "same numbers"],
        rows,
        notes=f"A network of two convolutions, batches of {BATCH_SIZE}; the fastest of "
        f"{arguments.rounds} rounds of fresh processes. Each replica and\neach worker "
        "has one thread. The attack is compiled before; the evaluation compiles on "
        "each replica.\nA ratio above 1 is faster than one device.",
    )


if __name__ == "__main__":
    main()
