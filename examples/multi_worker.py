"""Trains adversarially and evaluates on all machines of a cluster.

    python examples/multi_worker.py --data mnist.npz --output /shared/run

Every machine runs this command, with its place in the cluster in `TF_CONFIG`; see
docs/several_machines.md. `--output` is a folder that all of them see. The run continues
there when all are started again. Without `TF_CONFIG` one machine works alone, and
without `--data` the images are noise with a mark for each class.
"""

import argparse
import shutil
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.attacks import PGD
from keras_advdef.evaluation import evaluate_robustness
from keras_advdef.training import AdversarialTrainingModel

CLASSES = 10


def parse_arguments() -> argparse.Namespace:
    """Returns the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", help=".npz with x_train, y_train, x_test, y_test")
    parser.add_argument("--output", help="folder that all machines see", required=True)
    parser.add_argument("--epsilon", type=float, default=0.3)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=128, help="of all machines")
    parser.add_argument("--budget", default="quick")
    parser.add_argument("--smoke", action="store_true", help="a few images only")
    return parser.parse_args()


def load(path: str | None, count: int | None) -> list[np.ndarray]:
    """Returns images from 0 to 1 and labels, of training and of test."""
    if path is None:
        labels = np.arange(256) % CLASSES
        images = np.random.default_rng(0).uniform(0.0, 0.5, (256, 12, 12, 1))
        images[np.arange(256), labels] = 1.0
        images = images.astype("float32")
        return [images[:192], labels[:192], images[192:], labels[192:]]
    with np.load(path, allow_pickle=False) as file:
        names = ("x_train", "y_train", "x_test", "y_test")
        images, labels, *test = (file[name][:count] for name in names)
    prepared = []
    for each, classes in ((images, labels), test):
        scaled = each.astype("float32") / 255.0
        prepared += [scaled.reshape(*scaled.shape[:3], -1), classes.ravel()]
    return prepared


def batches(images: np.ndarray, labels: np.ndarray, size: int) -> tf.data.Dataset:
    """Returns whole batches; TensorFlow gives each machine its share of every one."""
    data = tf.data.Dataset.from_tensor_slices((images, labels))
    options = tf.data.Options()
    policy = tf.data.experimental.AutoShardPolicy.DATA
    options.experimental_distribute.auto_shard_policy = policy
    return data.batch(size, drop_remainder=True).with_options(options)


def backup_of(output: Path, worker: int) -> keras.callbacks.BackupAndRestore:
    """Returns the backup of a machine, which starts from that of the first one.

    A machine may be killed when only some have written theirs.
    """
    own, first = (output / f"backup-{number}" for number in (worker, 0))
    if worker:
        shutil.rmtree(own, ignore_errors=True)
        if first.exists():
            shutil.copytree(first, own)
    return keras.callbacks.BackupAndRestore(own, delete_checkpoint=False)


def main() -> None:
    """Trains, evaluates and prints."""
    # Before anything else: it connects to the other machines.
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    arguments = parse_arguments()
    worker, output = strategy.cluster_resolver.task_id or 0, Path(arguments.output)
    x, y, x_test, y_test = load(arguments.data, 256 if arguments.smoke else None)
    keras.utils.set_random_seed(0)
    attack = PGD(arguments.epsilon, steps=3 if arguments.smoke else 7)
    with strategy.scope():
        classifier = keras.Sequential(
            [
                keras.Input(x.shape[1:]),
                keras.layers.Conv2D(16, 5, strides=2, activation="relu"),
                keras.layers.Conv2D(32, 3, strides=2, activation="relu"),
                keras.layers.Flatten(),
                keras.layers.Dense(CLASSES),
            ]
        )
        model = AdversarialTrainingModel(classifier, attack, seed=0)
        model.compile(
            keras.optimizers.Adam(2e-3),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            # Several replicas cannot share a function of XLA.
            jit_compile=False,
        )
    history = model.fit(
        batches(x, y, 48 if arguments.smoke else arguments.batch_size),
        epochs=arguments.epochs,
        shuffle=False,
        callbacks=[backup_of(output, worker)],
        verbose=2 if worker == 0 else 0,
    ).history
    # Each machine attacks its share; all return the same report, the first writes it.
    with strategy.scope():
        report = evaluate_robustness(
            classifier,
            x_test,
            y_test,
            epsilon=arguments.epsilon,
            budget=arguments.budget,
            batch_size=8 if arguments.smoke else 64,
            output=output / "report",
        )
    print(f"worker {worker}: losses {history['loss']}")
    print(f"worker {worker}: {report.headline}")


if __name__ == "__main__":
    main()
