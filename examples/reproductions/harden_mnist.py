"""Eight ways to train one small net on MNIST, linf 0.3, each attacked by AutoAttack.

    python examples/reproductions/harden_mnist.py --data mnist.npz

Plain training, FGSM (Goodfellow et al. 2015), fast (FGSM-RS, Wong et al. 2020), Free
(Shafahi et al. 2019), PGD-7 (Madry et al. 2018), TRADES (Zhang et al. 2019), MART (Wang
et al. 2020), and TRADES with weight perturbation (Wu et al. 2020): the same net,
epochs, batches and learning rates for all of them, three seeds for each. What is
finished stays in a folder beside the table, and a second run continues from it.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
from mnist_data import Mnist, load_mnist
from reproduction import command, parse_arguments, publish, table

from keras_advdef.attacks import FGSM, PGD, AutoAttack
from keras_advdef.callbacks import EpochShuffle, PerturbationSchedule
from keras_advdef.objectives import MART, TRADES
from keras_advdef.training import (
    AdversarialTrainingModel,
    FreeAdversarialTrainingModel,
    TrainingModel,
)

TITLE = "Adversarial training on MNIST: eight ways, one net"
EPSILON = 0.3
EPOCHS, SMOKE_EPOCHS = 12, 1
REPLAYS = 4
BATCH_SIZE = 128
PEAK_RATE = 5e-3
WARM_UP = 0.3
STEPS, STEP_SIZE = 7, 0.075
PERTURBATION = 0.005
TESTED, SMOKE_TESTED = 1000, 4
SEEDS = 3
PUBLISHED = {
    "plain": ("99.2 %", "0 %", "Madry et al."),
    "fast": ("98.5 %", "82.9 %", "Wong et al., FGSM-RS, this net"),
    "PGD-7": ("98.5 %", "88.5 %", "Madry et al., 20 times as large"),
    "TRADES": ("99.5 %", "92.8 %", "Zhang et al., twice as large, 100 epochs"),
}


def small_network() -> keras.Model:
    """Returns the net of fast adversarial training (Wong et al. 2020), with logits."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(16, 4, strides=2, padding="same", activation="relu"),
            layers.Conv2D(32, 4, strides=2, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dense(100, activation="relu"),
            layers.Dense(10),
        ]
    )


def _inner() -> PGD:
    """The attack of the training steps that take seven."""
    return PGD(
        EPSILON,
        steps=STEPS,
        step_size=STEP_SIZE,
        return_best=False,
        precision="bfloat16",
    )


def _model(net: keras.Model, seed: int, **arguments: Any) -> TrainingModel:
    return AdversarialTrainingModel(net, seed=seed, **arguments)


WAYS: dict[str, Callable[[keras.Model, int], TrainingModel]] = {
    "plain": _model,
    "FGSM": lambda net, seed: _model(
        net, seed, attack=FGSM(EPSILON, precision="bfloat16")
    ),
    "fast": lambda net, seed: _model(
        net,
        seed,
        attack=FGSM(
            EPSILON,
            # From a clipped start, black pixels end at corners of the ball.
            random_start="unclipped",
            step_size=1.25 * EPSILON,
            precision="bfloat16",
        ),
    ),
    "Free": lambda net, seed: FreeAdversarialTrainingModel(
        net, epsilon=EPSILON, replays=REPLAYS
    ),
    "PGD-7": lambda net, seed: _model(net, seed, attack=_inner()),
    "TRADES": lambda net, seed: _model(net, seed, attack=_inner(), objective=TRADES()),
    "MART": lambda net, seed: _model(net, seed, attack=_inner(), objective=MART()),
    "TRADES + AWP": lambda net, seed: _model(
        net,
        seed,
        attack=_inner(),
        objective=TRADES(),
        weight_perturbation=PERTURBATION,
    ),
}


def train(
    way: str, data: Mnist, *, seed: int, epochs: int
) -> tuple[keras.Model, float]:
    """Returns a trained net, and the processor seconds that it took.

    Args:
        way: One of `WAYS`.
        data: The images.
        seed: Of all draws.
        epochs: Passes over the training images; Free makes as many updates in fewer.
    """
    keras.utils.set_random_seed(seed)
    net = small_network()
    model = WAYS[way](net, seed)
    passes = max(1, epochs // REPLAYS) if way == "Free" else epochs
    shuffle = EpochShuffle(seed)
    batches = shuffle.dataset(
        data.train_images,
        data.train_labels,
        batch_size=min(BATCH_SIZE, len(data.train_images)),
        drop_remainder=True,
    )
    steps = int(batches.cardinality()) * epochs
    warm_up = max(1, int(WARM_UP * steps))
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - warm_up), warmup_target=PEAK_RATE, warmup_steps=warm_up
    )
    model.compile(
        keras.optimizers.Adam(rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    callbacks: list[keras.callbacks.Callback] = [shuffle]
    if isinstance(model, AdversarialTrainingModel) and model.attack is not None:
        # With a large epsilon from the start the net may never leave equal logits.
        callbacks.append(
            PerturbationSchedule(lambda step: EPSILON * min(1.0, (step + 1) / warm_up))
        )
    started = time.process_time()
    model.fit(batches, epochs=passes, shuffle=False, callbacks=callbacks, verbose=2)
    return net, time.process_time() - started


def attacked(
    net: keras.Model, data: Mnist, *, seed: int, count: int
) -> dict[str, float]:
    """Returns the accuracies on clean test images, under PGD-40 and AutoAttack.

    Args:
        net: The classifier.
        data: The images.
        seed: Of the attacks' draws.
        count: How many of the test images.
    """
    images, labels = data.test_images[:count], data.test_labels[:count]
    attacks = {
        "PGD-40": PGD(EPSILON, steps=40, step_size=0.01, precision="bfloat16"),
        "AutoAttack": AutoAttack(EPSILON, precision="bfloat16"),
    }
    right = attacks["PGD-40"].predict(net, images) == labels
    found = {"clean": float(right.mean())}
    for name, attack in attacks.items():
        moved = attack.generate(
            net, images, labels, seed=seed, batch_size=250, verbose=0, stop_early=True
        )
        right &= attack.predict(net, moved) == labels
        found[name] = float(right.mean())
    return found


def results(arguments: Any, folder: Path) -> list[dict[str, Any]]:
    """Returns a result for each way and seed; those in the folder are not made again.

    Args:
        arguments: What `parse_arguments` returned.
        folder: Where results are kept.
    """
    data = load_mnist(arguments.data, smoke=arguments.smoke)
    epochs = SMOKE_EPOCHS if arguments.smoke else EPOCHS
    count = SMOKE_TESTED if arguments.smoke else TESTED
    found = []
    for seed in range(arguments.seed, arguments.seed + (arguments.smoke or SEEDS)):
        for way in WAYS:
            path = folder / f"{way.replace(' ', '')}-{seed}.json"
            if not path.is_file():
                net, seconds = train(way, data, seed=seed, epochs=epochs)
                result = {"way": way, "seed": seed, "seconds": seconds}
                result |= attacked(net, data, seed=seed, count=count)
                path.write_text(json.dumps(result) + "\n", encoding="utf-8")
                print(result, flush=True)
            found.append(json.loads(path.read_text(encoding="utf-8")))
    return found


def _spread(values: list[float]) -> str:
    """Mean and range in percent."""
    shares = [100.0 * value for value in values]
    mean = f"{statistics.mean(shares):.1f} %"
    if len(shares) == 1:
        return mean
    return f"{mean} ({min(shares):.1f} to {max(shares):.1f})"


def body(found: list[dict[str, Any]]) -> str:
    """Returns the table and its explanation.

    Args:
        found: What `results` returned.
    """
    rows = []
    plain = statistics.mean(each["seconds"] for each in found if each["way"] == "plain")
    for way in WAYS:
        mine = [each for each in found if each["way"] == way]
        cost = statistics.mean(each["seconds"] for each in mine) / plain
        measured = [
            _spread([each[name] for each in mine])
            for name in ("clean", "PGD-40", "AutoAttack")
        ]
        clean, robust, source = PUBLISHED.get(way, ("-", "-", "-"))
        rows.append([way, *measured, f"{cost:.1f}", clean, robust, source])
    header = ["training", "clean", "PGD-40", "AutoAttack", "time"]
    header += ["published clean", "published AutoAttack", "of"]
    seeds = len({each["seed"] for each in found})
    return (
        f"{table(header, rows)}\n\nAccuracies on test images, mean and range over "
        f"{seeds} seeds. PGD-40 counts its strongest point;\nAutoAttack the worst of "
        "both. Time is processor time of training over that of plain\ntraining. The "
        "published rows are of other nets and longer trainings, as they say."
    )


def main() -> None:
    """Trains, attacks, and writes the table."""
    arguments = parse_arguments(__file__, TITLE)
    folder = Path(tempfile.mkdtemp())
    if arguments.output is not None:
        folder = arguments.output.with_suffix("")
        folder.mkdir(parents=True, exist_ok=True)
    found = results(arguments, folder)
    facts = {
        "Command": f"`{command(__file__, arguments)}`",
        "Seeds": ", ".join(sorted({str(each["seed"]) for each in found})),
        "Data": f"60000 MNIST training images; the first {TESTED} test images",
        "Training": f"{EPOCHS} epochs of {BATCH_SIZE} images (Free: "
        f"{EPOCHS // REPLAYS} with {REPLAYS} updates of each batch); Adam, peak rate "
        f"{PEAK_RATE:g}; epsilon from 0 to {EPSILON} in the first 30 % of the steps; "
        f"seven steps of {STEP_SIZE} where there are seven; attacks crafted in "
        "bfloat16",
        "Evaluation": "PGD-40 with steps of 0.01, and standard AutoAttack, in "
        "bfloat16; success counts in float32",
    }
    publish(TITLE, body(found), facts=facts, output=arguments.output)


if __name__ == "__main__":
    main()
