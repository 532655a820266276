"""harden: from a user's model to a defended one in one call."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_advdef.core.progress import Progress, progress_of
from keras_advdef.recipes._harden.request import Request
from keras_advdef.recipes._harden.run import Hardening
from keras_advdef.recipes._harden.training_data import TrainingData
from keras_advdef.recipes.hardened_model import HardenedModel


def harden(
    model: keras.Model,
    train_data: Any,
    validation_data: Any = None,
    *,
    epsilon: float,
    norm: str = "linf",
    value_range: tuple[float, float] = (0.0, 1.0),
    recipe: str = "fast",
    epochs: int | None = None,
    minutes: float | None = None,
    output: str | Path | None = None,
    precision: str = "auto",
    seed: int = 0,
    verbose: str | int | Progress = "auto",
    augment: bool | str = "auto",
    weight_decay: float = 5e-4,
    averaging: float = 0.995,
    patience: int | None = None,
    warm_up: bool | str = "auto",
    guard: bool = True,
    learning_rate: float | None = None,
    batch_size: int = 128,
    class_weight: Mapping[int, float] | None = None,
    class_names: Sequence[str] | None = None,
    data_name: str = "",
) -> HardenedModel:
    """Trains a classifier adversarially, and reports what it is worth before and after.

    Which epsilon? One that leaves the class of an image plain to people: about 0.3 of a
    range of 1 for handwritten digits like MNIST's, 8/255 for small photographs like
    CIFAR-10's, 4/255 for large ones; in l2, 0.5. The picture `epsilon.png` in `output`
    shows such a change on your own images.

    The model is trained in place, from the weights it has, as by `fit`; frozen layers
    stay frozen. If it is compiled, its loss and metrics are kept; the optimizer is the
    recipe's. Each epoch is measured on held-out images under PGD-10, with averaged
    weights, and the best epoch is kept. Both reports are about other images still.

    With an `output`, a run may be stopped at any time: the same call continues after
    the last finished epoch, bit for bit on one CPU, or returns the result if it is
    finished.

    Args:
        model: A `keras.Model` from images to logits or probabilities.
        train_data: A pair `(images, labels)` of arrays, images `(count, rows, cols,
            channels)` in `value_range`, as bytes or floats; or a `tf.data.Dataset` or
            `PyDataset` of batches; or the path of a `.npz` file in the layout of
            `keras.datasets` or of a folder with one subfolder of images per class, or
            with `train/` and `test/` sorted that way. What draws its images anew in
            each pass, as with augmentation, is trained on as it comes; the rest is read
            into memory.
        validation_data: As `train_data`: half of it, at most 1000 images, chooses the
            best epoch, and the rest is reported about. `None` for the test images of a
            path, or a tenth of `train_data`, held out of it.
        epsilon: Largest norm of a perturbation, in the units of `value_range`.
        norm: "linf", "l2" or "l1".
        value_range: Pair `(low, high)`, the range of the pixels.
        recipe: "fast": one step from noise of 2 epsilon (N-FGSM, de Jorge et al. 2022;
            above a tenth of the range, and in other norms, FGSM from a random start,
            Wong et al. 2020).
            "pgd": seven steps (Madry et al. 2018). "trades": TRADES with beta 6 (Zhang
            et al. 2019). "trades_awp": the same with weight perturbation (Wu et al.
            2020). "certified": interval bounds (Gowal et al. 2019), for images of at
            most 64 pixels a side: fewer survive, but for those it is proved.
        epochs: Passes over the training images; `None` for 30, or what `minutes` allow.
        minutes: Time for everything, evaluations included; `None` for no limit.
        output: Folder for model, reports and pictures; see `HardenedModel.save`.
        precision: Of the attacks in training: "float32", "bfloat16", or "auto" for the
            faster one if both reach the same loss.
        seed: Integer in `[0, 2**31)` that fixes every draw.
        verbose: 0 for silence; 1 or "auto" for lines about plan and progress; or a
            `keras_advdef.core.progress.Progress`.
        augment: Whether to shift images by up to an eighth of their side and mirror
            them; "auto" does it to square colour images of at least 24 pixels, unless
            the model or the data do it.
        weight_decay: Decay of the kernels, as the factor of an L2 penalty under SGD.
        averaging: Share of the old average that each step keeps; 0 for no average.
        patience: Epochs without a better one after which training stops; `None` for a
            third of them, at least 5.
        warm_up: Whether epsilon grows over the first fifth of the steps; "auto" where
            it is above a tenth of the range.
        guard: Whether "fast" goes back to its best epoch and stops when it collapses;
            see `callbacks.CatastrophicOverfittingGuard`.
        learning_rate: Its peak; `None` for 0.1 (SGD) in models with batch
            normalization, else 0.001 (Adam).
        batch_size: Images in a step.
        class_weight: As in `fit`.
        class_names: Names of the classes, for the reports.
        data_name: What the images are, for the reports.

    Returns:
        A `HardenedModel`.

    Raises:
        TypeError: If the model or the data are of another kind.
        ValueError: If an argument is out of its bounds, the data do not fit, `minutes`
            are too few for one epoch, `output` holds another run, or the training
            diverges before the end of an epoch.

    Example:

    >>> x = np.random.default_rng(0).uniform(size=(60, 4, 4, 1)).astype("float32")
    >>> y = (x.mean(axis=(1, 2, 3)) > 0.5).astype(int)
    >>> net = keras.Sequential([
    ...     keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    >>> hardened = keras_advdef.harden(net, (x, y), epsilon=0.1, epochs=1, verbose=0)
    >>> hardened.after.clean["count"]
    3
    """
    arguments = {
        name: value
        for name, value in locals().items()
        if name not in ("train_data", "validation_data", "verbose")
    }
    request = Request.parse(**arguments)
    data = TrainingData.of(
        train_data, validation_data, request.value_range, seed=request.seed
    )
    if request.class_names is None and data.class_names:
        request = dataclasses.replace(request, class_names=data.class_names)
    return Hardening(request, data, progress_of(verbose)).run()
