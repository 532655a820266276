"""evaluate_robustness: attacks a model as its critics would, and reports honestly."""

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_advdef.attacks.attack import Attack
from keras_advdef.core.progress import Progress, progress_of
from keras_advdef.core.replicas import Replicas, outside_of_scope
from keras_advdef.evaluation._evaluation import Evaluation
from keras_advdef.evaluation._report.finished_report import (
    finished_report,
    renamed,
    save_report,
)
from keras_advdef.evaluation._report.shared_report import shared_report
from keras_advdef.evaluation._request.identity import identity_of
from keras_advdef.evaluation._request.request import OWNER, Request
from keras_advdef.evaluation._run.ledger import Ledger, remove_parts
from keras_advdef.evaluation.robustness_report import RobustnessReport

_NAMES = ("class_names", "data_name")


def evaluate_robustness(
    model: Any,
    images: Any,
    labels: Any = None,
    *,
    epsilon: float | Mapping[str, float] | Sequence[float],
    norm: str = "linf",
    norms: Sequence[str] | None = None,
    value_range: tuple[float, float] = (0.0, 1.0),
    budget: str = "standard",
    attacks: Sequence[Attack] | None = None,
    reference: Any = None,
    surrogate: Any = None,
    curve: Sequence[float] | None = None,
    corruptions: bool = False,
    batch_size: int = 128,
    precision: str = "float32",
    output: str | Path | None = None,
    seed: int = 0,
    judgements: int = 10,
    verbose: str | int | Progress = "auto",
    allow_small_epsilon: bool = False,
    class_names: Sequence[str] | None = None,
    data_name: str = "",
) -> RobustnessReport:
    """Inspects a model, runs the attacks that fit it, and reports what they found.

    The cards of this package's defences, and a few passes through any model, decide how
    to attack: gradients are averaged over draws (EOT) if the model is random; layers
    without a gradient are replaced by the identity in the backward pass (BPDA); score-
    and decision-based attacks run if there is no gradient at all; and attacks evade a
    class that catches adversarial images. For comparison, a naive attack ignores all
    defences. Sanity checks tell whether the number can be believed (Carlini et al.
    2019, "On evaluating adversarial robustness"). If one fails, the headline says so
    and reports an accuracy under some attacks instead of a robust accuracy.

    In the scope of a `tf.distribute.MirroredStrategy` or `MultiWorkerMirroredStrategy`,
    each replica attacks its share of the batches, and the numbers are those of one
    device. All workers of a cluster make the same call with the same images; only the
    first of them prints, and writes to `output`.

    With an `output`, a run may be stopped at any time: the same call continues after
    the last finished block, or returns the report at once if it is finished.

    Args:
        model: A Keras model; the path of a `.keras` file or a SavedModel; or a function
            from images to logits. A SavedModel is a program: load only those that you
            trust.
        images: Array `(count, rows, cols, channels)` in `value_range`; or a
            `tf.data.Dataset` or `keras.utils.PyDataset` of batches of images and
            labels, which is read only as far as the budget needs.
        labels: True classes, integer `(count,)` or one-hot `(count, classes)`; `None`
            if the data set holds them.
        epsilon: Largest norm of a perturbation, in the units of `value_range`. With
            `norms`, one for each: `{"linf": 8 / 255, "l2": 0.5}`, or a list in their
            order.
        norm: "linf", "l2" or "l1".
        norms: Several norms instead of `norm`. The report is about the first; the
            accuracy under each and under any of them is added.
        value_range: Pair `(low, high)`, the range of the pixels.
        budget: "quick": FGSM, PGD-20, APGD-25 on the DLR and 200 queries of Square on
            the first 200 images. "standard": AutoAttack ("rand" for random models) and
            the attacks named by the cards, on the first 1000 images. "full": the same
            on all images, plus PGD-100 x 5, Carlini and Wagner's attack (for norms
            other than l2, PGD on their loss), DeepFool, HopSkipJump and images
            transferred from `surrogate`.
        attacks: Attacks to run instead of the budget's; the checks run as well.
        reference: The undefended model, in a form that `model` can have, to measure
            the costs of the defence.
        surrogate: A model, in a form that `model` can have, whose adversarial images
            are also tried.
        curve: Epsilons of the accuracy curve; `None` for multiples of `epsilon`.
        corruptions: Whether to measure the accuracy with common corruptions as well,
            such as noise, blur and fog; see `evaluate_corruptions`.
        batch_size: Images per compiled call.
        precision: "float32", or "bfloat16" for faster attacks on hardware that
            supports it; success is always decided in float32.
        output: Folder for the report, and for the finished parts of a stopped run. A
            plain function is identified by its name only: use a new folder for each.
        seed: Seed of every draw.
        judgements: Fresh draws on which each image is judged if the model is random, at
            least 2. The accuracy is their mean; the report adds the accuracy in all of
            them and by majority vote.
        verbose: 0 for silence; 1 or "auto" for lines about the plan and the progress;
            or a `keras_advdef.core.progress.Progress` that shows them another way.
        allow_small_epsilon: Confirms an epsilon below 0.1 % of the range.
        class_names: Names of the classes in the order of their numbers, for tables and
            pictures; `None` for numbers.
        data_name: What the images are, such as "the test images of MNIST", for the
            top of the report.

    Returns:
        A `RobustnessReport`.

    Raises:
        ValueError: If images, labels, epsilon, value range or output are invalid; the
            message says how.

    Example:

    >>> model = keras.Sequential([
    ...     keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    >>> images = np.random.default_rng(0).uniform(size=(6, 2, 2, 1))
    >>> report = keras_advdef.evaluation.evaluate_robustness(
    ...     model, images, [0, 1] * 3, epsilon=0.1, budget="quick", verbose=0)
    >>> report.adaptive["count"]
    6
    """
    request = Request.parse(
        model=model,
        images=images,
        labels=labels,
        epsilon=epsilon,
        norm=norm,
        norms=norms,
        value_range=value_range,
        budget=budget,
        attacks=attacks,
        reference=reference,
        surrogate=surrogate,
        curve=curve,
        corruptions=corruptions,
        batch_size=batch_size,
        precision=precision,
        seed=seed,
        judgements=judgements,
        allow_small_epsilon=allow_small_epsilon,
        class_names=class_names,
        data_name=data_name,
    )
    replicas = Replicas.of_scope(OWNER)
    others = request.reference, request.surrogate
    reference, surrogate = (None if each is None else each.model for each in others)
    progress = progress_of(verbose) if replicas.is_chief else Progress()
    folder = None if output is None else Path(output)
    with replicas.working_on(
        OWNER,
        model=request.evaluated.model,
        reference=reference,
        surrogate=surrogate,
    ):
        return outside_of_scope(replicas, lambda: _run(request, folder, progress))


def _run(request: Request, output: Path | None, progress: Progress) -> RobustnessReport:
    """Runs a checked request, or resumes it."""
    replicas, identity = Replicas.of_scope(OWNER), identity_of(request)
    said = json.dumps([identity, output is None], sort_keys=True, default=str)
    replicas.check_same(OWNER, np.frombuffer(said.encode(), np.uint8))
    if output is not None:
        find = functools.partial(_finished, request, output, identity=identity)
        finished = shared_report(replicas, output, lambda: find(progress=progress))
        if finished is not None:
            return finished
    ledger = Ledger(output, identity, progress)
    is_finished = False
    try:
        report = Evaluation(request, ledger, progress).run()
        if output is not None:
            replicas.on_chief(lambda: save_report(report, output))
        is_finished = True
    finally:
        ledger.close(finished=is_finished)
    return report


def _finished(
    request: Request,
    output: Path,
    *,
    identity: dict[str, object],
    progress: Progress,
) -> RobustnessReport | None:
    """Returns the report of a run that has finished before, if there is one."""
    finished = finished_report(output, identity, progress)
    if finished is None:
        return None
    names = {name: getattr(request, name) for name in _NAMES}
    remove_parts(output, identity)
    return renamed(finished, output, **names)
