"""SmallestPerturbations: the nearest images that the model gets wrong."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_advdef.attacks.attack import Attack
from keras_advdef.attacks.ddn import DDN
from keras_advdef.attacks.fab import FAB
from keras_advdef.attacks.fmn import FMN
from keras_advdef.attacks.hop_skip_jump import HopSkipJump
from keras_advdef.attacks.pdpgd import PDPGD
from keras_advdef.attacks.pgd import PGD
from keras_advdef.core.image_layout import pad_rows
from keras_advdef.core.norms import norm_per_image
from keras_advdef.core.predictions import predicted_classes
from keras_advdef.core.progress import Progress
from keras_advdef.evaluation._plan.probe_result import ProbeResult
from keras_advdef.evaluation._request.derived_seed import derived_seed
from keras_advdef.evaluation._request.request import Request
from keras_advdef.evaluation._run.forecast import Forecast
from keras_advdef.evaluation._run.judge import Judge
from keras_advdef.evaluation._run.ledger import Arrays, Ledger

# Steps of each attack by budget, 0 for none. FAB, whose steps take a backward pass for
# each class, finds what the others miss on adversarially trained models; see
# `benchmarks/smallest_perturbations.py`.
_FMN_STEPS = {"quick": 100, "standard": 200, "full": 400}
_FAB_STEPS = {"quick": 0, "standard": 50, "full": 100}
_OTHER_STEPS = {"quick": 0, "standard": 200, "full": 400}
_RANDOM_STEPS = 20
_DECISION_STEPS = 10
_DECISION_EVALUATIONS = 300
_DRAWS = 20
# On a random model an image must fool this share of the draws. On fresh draws it is
# then still misclassified more often than not.
_SURE = 0.8
# On a random model the search starts this many epsilons away and then bisects.
_FAR = 4.0
_HALVINGS = 7


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SmallestPerturbations:
    """The smallest misclassified images that were found.

    Attributes:
        rows: Indices of the images, correctly classified when clean.
        images: The adversarial images.
        norms: Norms of their perturbations, infinite if none was found.
        predicted: Predicted classes of the adversarial images.
        attack: Names of the searches, for readers.
    """

    rows: np.ndarray
    images: np.ndarray
    norms: np.ndarray
    predicted: np.ndarray
    attack: str

    @property
    def median(self) -> float | None:
        """The median norm, `None` if infinite: without a find for half the images."""
        middle = float(np.median(self.norms)) if len(self.norms) else np.inf
        return middle if np.isfinite(middle) else None


def minimal_attacks(request: Request, probed: ProbeResult) -> list[Attack]:
    """Returns the attacks that search for the smallest perturbations.

    Args:
        request: The checked arguments.
        probed: What the probe found out about the model.
    """
    common: dict[str, Any] = {
        "norm": request.norm,
        "value_range": tuple(request.value_range),
    }
    gradient = {
        "eot_samples": min(probed.draws, _DRAWS),
        "precision": request.precision,
        **common,
    }
    if probed.has_gradient and probed.is_random:
        # Near its decision boundary predictions are random: start far beyond it.
        far = min(_FAR * request.epsilon, request.full_range)
        return [PGD(far, steps=_RANDOM_STEPS, **gradient)]
    if probed.has_gradient:
        return _followers(request, gradient)
    walk = HopSkipJump(
        steps=_DECISION_STEPS, max_evaluations=_DECISION_EVALUATIONS, **common
    )
    return [walk]


def _followers(request: Request, settings: dict[str, Any]) -> list[Attack]:
    """Returns the attacks that follow gradients."""
    budget = request.budget.name
    attacks: list[Attack] = [FMN(steps=_FMN_STEPS[budget], **settings)]
    if _OTHER_STEPS[budget]:
        steps = _OTHER_STEPS[budget]
        if request.norm == "l2":
            rest = {key: value for key, value in settings.items() if key != "norm"}
            attacks.append(DDN(steps=steps, **rest))
        else:
            attacks.append(PDPGD(steps=steps, **settings))
    if _FAB_STEPS[budget]:
        attacks.append(FAB(steps=_FAB_STEPS[budget], **settings))
    return attacks


def names_of(attacks: list[Attack]) -> str:
    """Returns the names of attacks, for readers.

    Args:
        attacks: At least one attack.
    """
    *most, last = map(str, attacks)
    return f"{', '.join(most)} and {last}" if most else last


def _bisected(
    images: np.ndarray,
    clean: np.ndarray,
    fools: Callable[[np.ndarray], np.ndarray],
    *,
    halvings: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Bisects between clean and adversarial images.

    Args:
        images: The adversarial images.
        clean: The clean images.
        fools: Tells which images fool the model.
        halvings: Steps of the bisection.

    Returns:
        The nearest images that still fool the model, and which of them do.
    """
    fooled = fools(images)
    low, high = np.zeros(len(images), np.float32), np.ones(len(images), np.float32)
    for _ in range(halvings):
        middle = (low + high) / 2
        reached = fools(clean + middle[:, None, None, None] * (images - clean))
        high, low = np.where(reached, middle, high), np.where(reached, low, middle)
    share = np.where(fooled, high, 1.0).astype(np.float32)
    return clean + share[:, None, None, None] * (images - clean), fooled


def find_smallest_perturbations(
    request: Request,
    probed: ProbeResult,
    judge: Judge,
    *,
    labels: np.ndarray,
    rows: np.ndarray,
    ledger: Ledger,
    progress: Progress,
    forecast: Forecast,
) -> SmallestPerturbations | None:
    """Returns the nearest adversarial images, or `None` without images.

    Args:
        request: The checked arguments.
        probed: What the probe found out about the model.
        judge: Decides which images are misclassified.
        labels: Integer labels of all images.
        rows: Indices of images that are correctly classified when clean.
        ledger: Stores finished blocks.
        progress: Receives progress messages.
        forecast: Estimates the remaining time.
    """
    attacks = minimal_attacks(request, probed)
    if not len(rows):
        return None
    named = names_of(attacks)
    size = min(request.size, len(rows))

    def search(name: str, block: np.ndarray) -> Arrays:
        chosen = pad_rows(block, size)
        seed = derived_seed(request.seed, name)
        clean = request.images[block].astype(np.float32)
        draws = request.judgements if probed.is_random else 1
        halvings = _HALVINGS if probed.is_random else 0

        def fools(tried: np.ndarray) -> np.ndarray:
            found = judge.wrong(tried, labels[block], draws=draws, seed=seed)
            return found >= _SURE * draws

        best, nearest = clean.copy(), np.full(len(block), np.inf, np.float32)
        for attack in attacks:
            images = attack.generate(
                probed.adaptive,
                request.images[chosen],
                labels[chosen],
                seed=seed,
                batch_size=size,
                verbose=0,
            )[: len(block)]
            images, fooled = _bisected(images, clean, fools, halvings=halvings)
            norms = norm_per_image(tf.constant(images - clean), request.norm).numpy()
            nearer = fooled & (norms < nearest)
            best[nearer], nearest[nearer] = images[nearer], norms[nearer]
        return {
            "images": best,
            "norms": nearest,
            "predicted": predicted_classes(judge.logits(best, seed)),
        }

    parts: list[Arrays] = []
    for places in ledger.groups(-(-len(rows) // size)):
        label, start = f"{named}, smallest perturbations", places.start * size
        progress.update(label, left=len(rows) - start, seconds=forecast.seconds)
        starts = [place * size for place in places]
        blocks = {f"nearest-{at:05d}": rows[at : at + size] for at in starts}
        what = f"{label}, image {start + 1}"
        parts += [part.arrays for part in ledger.parts(blocks, search, what)]
    joined = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    name = f"{named} and bisection" if probed.is_random else named
    return SmallestPerturbations(rows=rows, attack=name, **joined)
