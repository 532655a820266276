"""Evaluates networks of `keras.applications` in the pixel ranges they expect.

    python examples/evaluate_keras_applications.py --data x.npz --budget quick

`MobileNetV2` takes pixels from -1 to 1, `EfficientNetV2B0` from 0 to 255. For both,
epsilon is 4/255 of the range. Without `--weights` the networks are untrained, and
without `--data` the images are noise: the script runs, but its accuracies mean nothing.
"""

import argparse

import keras
import numpy as np

from keras_advdef.evaluation import evaluate_robustness

SHARE = 4 / 255
NETWORKS = {
    "MobileNetV2": (keras.applications.MobileNetV2, (-1.0, 1.0)),
    "EfficientNetV2B0": (keras.applications.EfficientNetV2B0, (0.0, 255.0)),
}


def parse_arguments() -> argparse.Namespace:
    """Returns the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--network", choices=NETWORKS, help="one only; default: both")
    parser.add_argument("--weights", help="weights file of that network")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--data", help=".npz with x_test (0 to 255) and y_test")
    parser.add_argument("--size", type=int, default=64, help="side of the images")
    parser.add_argument("--images", type=int, default=16, help="how many")
    parser.add_argument("--budget", default="quick")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="one network, two images")
    return parser.parse_args()


def load(arguments: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Returns images of the given size, from 0 to 255, and their labels."""
    count, size = arguments.images, arguments.size
    if arguments.data is None:
        generator = np.random.default_rng(arguments.seed)
        images = generator.uniform(0.0, 255.0, (count, size, size, 3))
        return images.astype("float32"), generator.integers(0, arguments.classes, count)
    with np.load(arguments.data, allow_pickle=False) as file:
        images, labels = file["x_test"][:count], file["y_test"][:count]
    resized = keras.ops.image.resize(images.astype("float32"), (size, size))
    return np.clip(resized, 0.0, 255.0), labels.ravel()


def main() -> None:
    """Evaluates and prints."""
    arguments = parse_arguments()
    names = [arguments.network] if arguments.network else list(NETWORKS)
    if arguments.smoke:
        names, arguments.images, arguments.size = names[:1], 2, 32
        arguments.classes = 3
    images, labels = load(arguments)
    for name in names:
        keras.utils.set_random_seed(arguments.seed)
        build, (low, high) = NETWORKS[name]
        pixels = images / 255.0 * (high - low) + low
        model = build(
            input_shape=(arguments.size, arguments.size, 3),
            weights=arguments.weights,
            classes=arguments.classes,
        )
        if arguments.weights is None:
            # With an untrained network, its own answers serve as labels.
            labels = model.predict(pixels, verbose=0).argmax(axis=-1)
        report = evaluate_robustness(
            model,
            pixels,
            labels,
            epsilon=SHARE * (high - low),
            value_range=(low, high),
            budget=arguments.budget,
            attacks=[] if arguments.smoke else None,
            curve=[] if arguments.smoke else None,
            seed=arguments.seed,
        )
        print(f"\n{name}: {report.headline}\n")
        print(report.to_markdown())


if __name__ == "__main__":
    main()
