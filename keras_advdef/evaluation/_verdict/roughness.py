"""Is the loss smooth enough for gradients to lead anywhere?

A gradient tells what a small step does. Where tiny steps change the loss as much as
steps across the ball do, it tells nothing (Pintor et al. 2022, "Indicators of attack
failure", NeurIPS).
"""

import functools

import numpy as np

from keras_advdef.core.progress import Progress
from keras_advdef.evaluation._plan.differing_rows import half_share
from keras_advdef.evaluation._plan.offending_operations import LARGEST_SHARE
from keras_advdef.evaluation._plan.probe_result import ProbeResult
from keras_advdef.evaluation._request.derived_seed import derived_seed
from keras_advdef.evaluation._request.request import Request
from keras_advdef.evaluation._run.judge import Judge, margins
from keras_advdef.evaluation._run.ledger import Arrays, Ledger
from keras_advdef.evaluation._verdict.not_run import not_run
from keras_advdef.evaluation._verdict.p_values import FEWEST
from keras_advdef.evaluation.check import Check

NAME = "smooth_loss"
_REASON = "the loss is too rough for gradients to lead anywhere"
_LABEL = "roughness of the loss"
_IMAGES = 50
_DIRECTIONS = 16
# Length of a tiny step, in epsilons.
TINY_STEP = 0.01
# Change of the margin by a tiny step, relative to the change by a step of epsilon. It
# is 0.01 for a smooth one, and at most 0.04 around each of 1300 images of 27 honest
# nets. A net with rounded pixels or saw teeth exceeds this around most images.
_ROUGH = 0.06
# Fewer rough images may be chance.
_FEWEST_ROUGH = 3
# Of the images of a class.
_MOST_OF_CLASS = 0.5
_PREPROCESSING = "input transformation"
_not_run = functools.partial(not_run, NAME, _REASON)


def check_roughness(
    request: Request,
    probed: ProbeResult,
    judge: Judge,
    *,
    labels: np.ndarray,
    ledger: Ledger,
    progress: Progress,
) -> Check:
    """Compares what tiny and large steps do to the margin of the first images.

    Args:
        request: The checked arguments.
        probed: What the probe found out about the model.
        judge: Runs the model.
        labels: Integer labels of all images.
        ledger: Stores the result.
        progress: Receives the progress.
    """
    count = min(request.count, _IMAGES)
    progress.update(_LABEL, left=count, seconds=None)

    def measure() -> Arrays:
        return _changes(request, judge, labels[:count])

    changes = ledger.part("roughness", measure, _LABEL)
    return _verdict(changes, labels[:count], probed)


def _changes(request: Request, judge: Judge, labels: np.ndarray) -> Arrays:
    """The root mean squares of the margin's changes around each image.

    Returns:
        `tiny` and `large` for the two lengths of steps; `none` for no step at all;
        `rounding`, what the model's arithmetic may change; each `(count,)`.
    """
    rng = np.random.default_rng(derived_seed(request.seed, "roughness"))
    seed = derived_seed(request.seed, "roughness", "draws")
    clean = request.images[: len(labels)].astype(np.float32)
    pixels = request.value_range
    step = request.epsilon_per_value
    base = clean + 0.5 * step * rng.uniform(-1.0, 1.0, clean.shape)
    base = np.clip(base, pixels.low, pixels.high).astype(np.float32)

    def look(images: np.ndarray) -> np.ndarray:
        # The same draws for the same image.
        return margins(judge.logits(images, seed), labels)

    logits = judge.logits(base, seed)
    here = margins(logits, labels)
    squares: dict[str, list[np.ndarray]] = {"tiny": [], "large": []}
    for _ in range(_DIRECTIONS):
        signs = rng.choice(np.array([-1.0, 1.0], np.float32), clean.shape)
        for name, length in (("tiny", TINY_STEP * step), ("large", step)):
            moved = base + length * signs
            # Steps that would leave the range go the other way.
            leaves = (moved < pixels.low) | (moved > pixels.high)
            moved = np.where(leaves, base - length * signs, moved)
            moved = np.clip(moved, pixels.low, pixels.high).astype(np.float32)
            squares[name].append((look(moved) - here) ** 2)
    found = {name: np.sqrt(np.mean(values, axis=0)) for name, values in squares.items()}
    rounding = half_share(request.evaluated.model) * np.abs(logits).max(axis=1)
    return {**found, "none": np.abs(look(base) - here), "rounding": rounding}


def _verdict(changes: Arrays, labels: np.ndarray, probed: ProbeResult) -> Check:
    tiny, large = changes["tiny"], changes["large"]
    counted = np.isfinite(tiny) & np.isfinite(large) & (large > 0.0)
    if len(labels) < FEWEST:
        return _not_run(f"it takes {FEWEST} images, and there are {len(labels)}")
    if counted.sum() < FEWEST:
        return _not_run("steps across the ball do not change the logits")
    if (changes["none"][counted] > _ROUGH * large[counted]).mean() > LARGEST_SHARE:
        return _not_run("two runs on the same images differ")
    rough = counted & (tiny > _ROUGH * large + changes["rounding"])
    share = rough.sum() / counted.sum()
    of_class = _rough_class(rough, counted, labels)
    is_rough = rough.sum() >= _FEWEST_ROUGH
    is_rough &= bool(share > LARGEST_SHARE or of_class is not None)
    median = float(np.median(tiny[counted] / large[counted]))
    detail = (
        f"Steps of {TINY_STEP} epsilon change the logit margin by {median:.2g} times "
        f"as much as steps of epsilon, in the median; {TINY_STEP} where it is smooth. "
        f"It is rough around {int(rough.sum())} of {int(counted.sum())} images"
    )
    if is_rough and share <= LARGEST_SHARE:
        detail += f", most of them of class {of_class}"
    detail += "."
    declared = [
        name for name, card in probed.cards.items() if card.category == _PREPROCESSING
    ]
    if is_rough and declared:
        detail += (
            f" That is due to {', '.join(declared)}, for which the attacks use "
            "another backward pass."
        )
    passed = not is_rough or bool(declared)
    return Check(name=NAME, passed=passed, detail=detail, reason=_REASON)


def _rough_class(
    rough: np.ndarray, counted: np.ndarray, labels: np.ndarray
) -> int | None:
    """The class around most of whose images the margin is rough, if there is one."""
    for label in np.unique(labels[rough]):
        own = counted & (labels == label)
        hits = int((rough & own).sum())
        if hits >= _FEWEST_ROUGH and hits > _MOST_OF_CLASS * own.sum():
            return int(label)
    return None
