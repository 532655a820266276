"""What `evaluate_robustness` says about models that only look robust.

python -m benchmarks.trick_models --budget quick
python -m benchmarks.trick_models --budget quick --data mnist.npz

Trains small nets on scikit-learn's digits, or on MNIST if `--data` is given, hides them
behind the tricks of `tests/support/trick_models`, evaluates each, and attacks each by
hand. Every result is written at once to `trick_models.json` beside this file, and the
page `docs/trick_models.md` with it. A second run measures what is missing; `--names`
measures these models again.
"""

import argparse
import gc
import json
import sys
import time
from typing import Any

import keras
import numpy as np

from keras_advdef.evaluation import RobustnessReport, evaluate_robustness
from tests.golden.trick_models import PAGE, RESULTS, alarm, page, recorded, verdict
from tests.support.trick_models import HONEST, TRICKS
from tests.support.trick_models.ground import Ground
from tests.support.trick_models.hand_attack import hand_attack

# An undefended net of each data set has no image left in a ball of this radius.
EPSILON = {"digits": 0.2, "mnist": 0.15}
EPOCHS = {"digits": 20, "mnist": 3}
_TRAINED = {"digits": 1400, "mnist": 30000}
_FEW = {"digits": None, "mnist": 10000}


def parse_arguments() -> argparse.Namespace:
    """Returns the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="MNIST as .npz in the layout of keras.datasets")
    parser.add_argument(
        "--budget", choices=("quick", "standard", "full"), default="quick"
    )
    parser.add_argument("--count", type=int, default=60, help="attacked images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--names", nargs="*", help="models to measure again")
    parser.add_argument(
        "--dry", action="store_true", help="print the results, and write nothing"
    )
    return parser.parse_args()


def digits() -> tuple[np.ndarray, ...]:
    """Returns scikit-learn's digits on the 8-bit grid, for training and for tests."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images = np.rint(found.images[..., None] * (255 / 16)) / 255
    order = np.random.default_rng(0).permutation(len(images))
    images, labels = images[order].astype("float32"), found.target[order]
    cut = _TRAINED["digits"]
    return images[:cut], labels[:cut], images[cut:], labels[cut:]


def mnist(path: str) -> tuple[np.ndarray, ...]:
    """Returns MNIST in `[0, 1]`, for training and for tests."""
    with np.load(path) as file:
        parts = [file[f"x_{part}"][..., None] for part in ("train", "test")]
        labels = [file[f"y_{part}"].astype("int64") for part in ("train", "test")]
    train, test = ((part / 255).astype("float32") for part in parts)
    cut = _TRAINED["mnist"]
    return train[:cut], labels[0][:cut], test, labels[1]


def robust_word(report: RobustnessReport) -> bool:
    """Returns whether the headline calls its number a robust accuracy."""
    return "Robust accuracy" in report.headline


def measure(
    kind: Any,
    ground: Ground,
    attacked: tuple[np.ndarray, np.ndarray],
    **settings: Any,
) -> dict[str, Any]:
    """Returns what the report says about one model, and the truth.

    Args:
        kind: A trick or an honest net.
        ground: What it is made from.
        attacked: The attacked images and their classes.
        **settings: `budget` and `seed`.
    """
    built = kind.built(ground)
    keras.utils.set_random_seed(settings["seed"])
    started = time.perf_counter()
    row: dict[str, Any] = {
        "attacked": None,
        "robust": False,
        "suspected": False,
        "failed": [],
        "refused": None,
    }
    try:
        report = evaluate_robustness(
            built.model, *attacked, epsilon=ground.epsilon, verbose=0, **settings
        )
    # An evaluation that dies has judged nothing, whatever the error.
    except Exception as error:
        row["refused"] = " ".join(f"{type(error).__name__}: {error}".split())
    else:
        row |= {
            "attacked": report.adaptive["accuracy"],
            "robust": robust_word(report),
            "suspected": report.masking_suspected,
            "failed": [c["name"] for c in report.checks if c["passed"] is False],
        }
    row["seconds"] = round(time.perf_counter() - started, 1)
    # On a new model, as some have a memory.
    keras.utils.set_random_seed(settings["seed"])
    truth = hand_attack(kind, ground, *attacked, seed=settings["seed"])
    return row | {"clean": truth.clean, "truth": truth.attacked}


def write(results: dict[str, Any]) -> None:
    """Writes the results and the page."""
    text = json.dumps(results, indent=1, sort_keys=True)
    RESULTS.write_text(text + "\n", encoding="utf-8")
    PAGE.write_text(page(results), encoding="utf-8")


def grounded(data: str | None) -> tuple[Ground, tuple[np.ndarray, ...]]:
    """Returns what models are made from, and the test images with their labels.

    Args:
        data: The path of MNIST, or `None` for the digits.
    """
    name = name_of(data)
    *train, images, labels = digits() if data is None else mnist(data)
    ground = Ground(
        images=train[0],
        labels=train[1],
        classes=10,
        epsilon=EPSILON[name],
        epochs=EPOCHS[name],
        few=_FEW[name],
    )
    return ground, (images, labels)


def name_of(data: str | None) -> str:
    """Returns the name of the data set."""
    return "digits" if data is None else "mnist"


def command_of(data: str | None, chosen: dict[str, Any]) -> str:
    """Returns the command that measures everything with some settings."""
    flags = [f"--{key} {value}" for key, value in chosen.items()]
    flags += [] if data is None else ["--data mnist.npz"]
    return " ".join(["python -m benchmarks.trick_models", *flags])


def run(arguments: argparse.Namespace) -> None:
    """Measures the models that are missing or named."""
    name = name_of(arguments.data)
    ground, tested = grounded(arguments.data)
    attacked = tuple(part[: arguments.count] for part in tested)
    chosen = {key: getattr(arguments, key) for key in ("budget", "count", "seed")}
    command = command_of(arguments.data, chosen)
    settings = {**chosen, "epsilon": ground.epsilon, "command": command}
    results = recorded()
    if results.get(name, {}).get("settings") != settings:
        results[name] = {"settings": settings, "rows": {}}
    rows = results[name]["rows"]
    for kind in [*TRICKS, *HONEST]:
        if kind.name not in (arguments.names or {kind.name} - {*rows}):
            continue
        rows[kind.name] = measure(
            kind, ground, attacked, budget=arguments.budget, seed=arguments.seed
        )
        said = alarm if kind in HONEST else verdict
        sys.stdout.write(f"{kind.name}: {said(rows[kind.name])} {rows[kind.name]}\n")
        sys.stdout.flush()
        if not arguments.dry:
            write(results)
        gc.collect()


def main() -> None:
    """Runs the script."""
    run(parse_arguments())


if __name__ == "__main__":
    main()
