"""Fast adversarial training on CIFAR-10, epsilon 8/255 (Wong et al., ICLR 2020).

    python examples/reproductions/cifar10.py --data cifar10-20k.npz

Trains a small ResNet with one randomly started FGSM step for each batch, and evaluates
it with the standard budget: clean, PGD-20 and AutoAttack on 1000 test images. Network
and report go to a folder beside the table; a second run continues from them.
"""

import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from reproduction import Clock, command, parse_arguments, publish, table

from keras_advdef.attacks import FGSM
from keras_advdef.evaluation import RobustnessReport, evaluate_robustness
from keras_advdef.evaluation.accuracy_estimate import percent as percent_of
from keras_advdef.training import AdversarialTrainingModel

TITLE = "Wong et al. 2020: fast adversarial training on CIFAR-10"
WIDTHS = (32, 64, 128)
BLOCKS = 2
EPSILON = 8 / 255
BATCH_SIZE = 128
SMOKE_TESTED = 16
EPOCHS = 30
PEAK_RATE = 0.2
WARM_UP = 0.3
WEIGHT_DECAY = 5e-4
MEAN = (0.4914, 0.4822, 0.4465)
DEVIATION = (0.2470, 0.2435, 0.2616)
CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)


def _block(inputs: keras.KerasTensor, width: int, stride: int) -> keras.KerasTensor:
    """Returns a pre-activation residual block."""
    settings = {"padding": "same", "use_bias": False, "kernel_initializer": "he_normal"}
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(inputs))
    shortcut = inputs
    if stride > 1 or inputs.shape[-1] != width:
        shortcut = keras.layers.Conv2D(width, 1, strides=stride, **settings)(x)
    x = keras.layers.Conv2D(width, 3, strides=stride, **settings)(x)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    x = keras.layers.Conv2D(width, 3, **settings)(x)
    return keras.layers.Add()([shortcut, x])


def small_resnet() -> keras.Model:
    """Returns a pre-activation ResNet of 14 layers that ends in logits."""
    inputs = keras.Input((32, 32, 3))
    variance = [deviation**2 for deviation in DEVIATION]
    x = keras.layers.Normalization(mean=MEAN, variance=variance)(inputs)
    x = keras.layers.Conv2D(WIDTHS[0], 3, padding="same", use_bias=False)(x)
    for width in WIDTHS:
        for index in range(BLOCKS):
            stride = 2 if index == 0 and width > WIDTHS[0] else 1
            x = _block(x, width, stride)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(10)(x))


def augmented(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Shifts an image by up to four pixels and mirrors every other one."""
    image = tf.pad(image, [[4, 4], [4, 4], [0, 0]])
    image = tf.image.random_crop(image, (32, 32, 3))
    return tf.image.random_flip_left_right(image), label


def train(images: np.ndarray, labels: np.ndarray, *, epochs: int) -> keras.Model:
    """Returns a network trained on FGSM images of itself.

    Args:
        images: Training images in `[0, 1]`.
        labels: Their classes.
        epochs: Passes over them.
    """
    classifier = small_resnet()
    attack = FGSM(
        EPSILON, random_start=True, step_size=1.25 * EPSILON, precision="bfloat16"
    )
    model = AdversarialTrainingModel(classifier, attack)
    steps = len(images) // BATCH_SIZE * epochs
    warm_up = max(1, int(WARM_UP * steps))
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - warm_up), warmup_target=PEAK_RATE, warmup_steps=warm_up
    )
    optimizer = keras.optimizers.SGD(rate, momentum=0.9, weight_decay=WEIGHT_DECAY)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])
    batches = tf.data.Dataset.from_tensor_slices((images, labels))
    batches = batches.shuffle(len(images)).map(augmented, tf.data.AUTOTUNE)
    batches = batches.batch(BATCH_SIZE, drop_remainder=True).prefetch(2)
    model.fit(batches, epochs=epochs, verbose=2)
    return classifier


def load_cifar10(path: str | None, *, smoke: bool) -> list[np.ndarray]:
    """Returns images in `[0, 1]` and labels, for training and for tests.

    Args:
        path: .npz in the layout of `keras.datasets`; `None` to let Keras download it.
        smoke: Whether to use only a few images; without a file they are noise.
    """
    if path is not None:
        names = ("x_train", "y_train", "x_test", "y_test")
        with np.load(path, allow_pickle=False) as file:
            arrays = [file[name] for name in names]
    elif smoke:
        generator = np.random.default_rng(0)
        images = generator.integers(0, 256, (BATCH_SIZE, 32, 32, 3))
        arrays = [images, generator.integers(0, 10, BATCH_SIZE)] * 2
    else:
        train_set, test_set = keras.datasets.cifar10.load_data()
        arrays = [*train_set, *test_set]
    x_train, y_train, x_test, y_test = arrays
    if smoke:
        x_train, y_train = x_train[:BATCH_SIZE], y_train[:BATCH_SIZE]
        x_test, y_test = x_test[:SMOKE_TESTED], y_test[:SMOKE_TESTED]
    images = [each.astype("float32") / 255 for each in (x_train, x_test)]
    labels = [each.ravel().astype("int64") for each in (y_train, y_test)]
    return [images[0], labels[0], images[1], labels[1]]


def main() -> None:
    """Trains, evaluates, and writes the report and the table."""
    arguments = parse_arguments(
        __file__, "Wong et al. 2020, fast adversarial training, on CIFAR-10"
    )
    keras.utils.set_random_seed(arguments.seed)
    data = load_cifar10(arguments.data, smoke=arguments.smoke)
    x_train, y_train, x_test, y_test = data
    folder = Path(tempfile.mkdtemp())
    if arguments.output is not None:
        folder = arguments.output.with_suffix("")
    saved, duration = folder / "model.keras", folder / "training_time.txt"
    if not saved.is_file():
        with Clock() as clock:
            epochs = 1 if arguments.smoke else EPOCHS
            classifier = train(x_train, y_train, epochs=epochs)
        folder.mkdir(parents=True, exist_ok=True)
        classifier.save(saved)
        duration.write_text(str(clock), encoding="utf-8")
    report = evaluate_robustness(
        saved,
        x_test,
        y_test,
        epsilon=EPSILON,
        budget="quick" if arguments.smoke else "standard",
        precision="bfloat16",
        output=folder,
        seed=arguments.seed,
        class_names=CLASSES,
        data_name="the test images of CIFAR-10",
    )
    facts = {
        "Command": f"`{command(__file__, arguments)}`",
        "Seed": str(arguments.seed),
        "Data": f"{len(x_train)} CIFAR-10 training images; the first "
        f"{report.clean['count']} of {len(x_test)} test images",
        "Training": f"{EPOCHS} epochs of {BATCH_SIZE} images with one FGSM step of "
        f"1.25 epsilon from a random start; SGD, peak rate {PEAK_RATE}, weight decay "
        f"{WEIGHT_DECAY:g}; shifts and mirrors",
        "Training time": f"{duration.read_text(encoding='utf-8')}; the budget is an "
        "hour on 2 cores",
        "Evaluation": "the standard budget in bfloat16; see cifar10/report.html",
    }
    publish(TITLE, _body(report), facts=facts, output=arguments.output)


def _body(report: RobustnessReport) -> str:
    """Returns the table and its explanation."""
    rows = [
        ["accuracy on clean images", percent_of(report.clean), "83.3 %"],
        ["accuracy under PGD-20", percent_of(report.naive), "46.1 % (PGD-50 x 10)"],
        ["accuracy under all attacks", percent_of(report.adaptive), "43.2 %"],
    ]
    body = table(["CIFAR-10, linf epsilon 8/255", "ours", "the paper's"], rows)
    return (
        f"{body}\n\n{report.headline}\n\nBrackets are 95 % Clopper-Pearson intervals. "
        "The paper's network is a PreActResNet-18,\n16 times as large, trained on all "
        "50 000 images. Its clean accuracy and the last number are those of the\n"
        "released weights under AutoAttack (RobustBench, Wong2020Fast)."
    )


if __name__ == "__main__":
    main()
