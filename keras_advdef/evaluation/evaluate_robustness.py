"""evaluate_robustness: attacks a model as its critics would, and reports honestly."""

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_advdef.attacks.attack import Attack
from keras_advdef.core.progress import LineProgress, Progress
from keras_advdef.evaluation._report.finished_report import finished_report, save_report
from keras_advdef.evaluation._report.report_data import report_data, run_facts
from keras_advdef.evaluation._request.identity import identity_of
from keras_advdef.evaluation._request.request import Request
from keras_advdef.evaluation._run.evaluation import Evaluation
from keras_advdef.evaluation._run.ledger import Ledger, remove_parts
from keras_advdef.evaluation.robustness_report import RobustnessReport


def evaluate_robustness(
    model: Any,
    images: Any,
    labels: Any = None,
    *,
    epsilon: float,
    norm: str = "linf",
    value_range: tuple[float, float] = (0.0, 1.0),
    budget: str = "standard",
    attacks: Sequence[Attack] | None = None,
    reference: Any = None,
    surrogate: Any = None,
    curve: Sequence[float] | None = None,
    batch_size: int = 128,
    precision: str = "float32",
    output: str | Path | None = None,
    seed: int = 0,
    verbose: str | int | Progress = "auto",
    allow_small_epsilon: bool = False,
) -> RobustnessReport:
    """Finds out what a model contains, attacks it accordingly, and says what it found.

    The cards of this package's defences, and a few passes through any other model, say
    how it is to be attacked: with gradients averaged over draws (EOT) if it is random,
    with the identity behind layers that let no gradient through (BPDA), with score- and
    decision-based attacks where gradients cannot be had, past a class that catches
    attacked images. A naive attack, which knows of no defence, runs beside. Sanity
    checks tell whether the number can be believed (Carlini et al. 2019, "On evaluating
    adversarial robustness"); if one fails, the headline says so, and the number is an
    accuracy under some attacks instead of a robust accuracy.

    With an `output` a run may be stopped at any time: the same call goes on from the
    last finished block, and returns at once where the report is already there.

    Args:
        model: A Keras model; the path of a `.keras` file, or of a SavedModel, which is
            a program: load only those that you trust; or a function from images to
            logits.
        images: Array `(count, rows, cols, channels)` in `value_range`; or a
            `tf.data.Dataset` or `keras.utils.PyDataset` of batches of images and
            labels, of which no more is read than the budget takes.
        labels: True classes, integer `(count,)` or one-hot `(count, classes)`; `None`
            where the data set holds them.
        epsilon: Radius of the ball, in the units of `value_range`.
        norm: "linf", "l2" or "l1".
        value_range: Pair `(low, high)` in which the pixels lie.
        budget: "quick": FGSM, PGD-20, APGD-25 and 200 queries of Square on the first
            200 images. "standard": AutoAttack ("rand" for random models) and what the
            cards ask for, on the first 1000. "full": the same on all images, and
            PGD-100 x 5, Carlini and Wagner's attack (in other norms than l2 PGD on
            their loss), DeepFool, HopSkipJump and images transferred from `surrogate`.
        attacks: Attacks to run instead of the budget's; the checks run beside.
        reference: The undefended model, as `model`, to measure what the defence costs.
        surrogate: A model, as `model`, whose adversarial images are tried as well.
        curve: Epsilons of the accuracy curve; `None` for multiples of `epsilon`.
        batch_size: Images per compiled call.
        precision: "float32", or "bfloat16" for attacks that are faster where the
            processor has such units; success is decided in float32.
        output: Folder for the report and for what a stopped run needs to go on. A
            plain function is known by its name alone: give another one its own folder.
        seed: Fixes every draw.
        verbose: 0 for silence; 1 or "auto" for lines about the plan and the progress;
            or a `keras_advdef.core.progress.Progress` that shows them another way.
        allow_small_epsilon: Whether an epsilon under 0.1 % of the range is meant.

    Returns:
        A `RobustnessReport`.

    Raises:
        ValueError: If images, labels, epsilon, range or output do not fit; see the
            message.

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
        value_range=value_range,
        budget=budget,
        attacks=attacks,
        reference=reference,
        surrogate=surrogate,
        curve=curve,
        batch_size=batch_size,
        precision=precision,
        seed=seed,
        allow_small_epsilon=allow_small_epsilon,
    )
    return _run(request, None if output is None else Path(output), _progress(verbose))


def _progress(verbose: str | int | Progress) -> Progress:
    if isinstance(verbose, Progress):
        return verbose
    return LineProgress() if verbose in ("auto", 1) else Progress()


def _run(request: Request, output: Path | None, progress: Progress) -> RobustnessReport:
    """Runs a checked request, or goes on with it."""
    identity = identity_of(request)
    if output is not None:
        finished = finished_report(output, identity, progress)
        if finished is not None:
            remove_parts(output, identity)
            return finished
    started = datetime.datetime.now(datetime.UTC)
    ledger = Ledger(output, identity, progress)
    is_finished = False
    try:
        findings = Evaluation(request, ledger, progress).run()
        facts = run_facts(request, findings, identity=identity, started=started)
        data = {**report_data(request, findings), "run": facts}
        report = RobustnessReport(data, gallery=findings.gallery)
        if output is not None:
            save_report(report, output)
        is_finished = True
    finally:
        ledger.close(finished=is_finished)
    return report
