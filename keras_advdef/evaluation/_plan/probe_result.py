"""probe: inspects a model and tries it on a few images before the attacks."""

import dataclasses
import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.core.cards import DefenceCard
from keras_advdef.core.logits import LogitsFunction, LogitsModel
from keras_advdef.core.model_view import ModelView
from keras_advdef.core.random_numbers import make_key
from keras_advdef.core.random_state import draw_scope
from keras_advdef.core.softmax_head import score_total
from keras_advdef.core.value_range import ValueRange
from keras_advdef.evaluation._plan.differing_rows import (
    differences,
    differing_rows,
    rounding_share,
)
from keras_advdef.evaluation._plan.offending_operations import (
    LARGEST_SHARE,
    defective,
    offending_operations,
)
from keras_advdef.evaluation._request.derived_seed import derived_seed
from keras_advdef.evaluation._request.evaluated_model import EvaluatedModel

_IMAGES = 50
_RUNS = 5
_DEFAULT_DRAWS = 20
# Logarithm that stands for a probability of zero.
_CERTAIN = -60.0


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ProbeResult:
    """The findings about a model, and the two ways in which it is attacked.

    Attributes:
        cards: Cards of this package's defences inside, by class name.
        is_random: Whether runs on the same images differ.
        spread: Largest difference of a logit between five runs.
        score_total: What each row sums to if it returns scores without recoverable
            logits: 1 for probabilities, 7 for seven votes. Their logarithms are the
            logits. 0 if it returns logits.
        certain: Share of images for which one class has all the probability, which
            hides how close the others are.
        no_gradient: Share of images without a usable input gradient.
        no_gradient_by_identity: The same with the identity as the backward pass of
            `bpda_layers`.
        bpda_layers: Layers and operations whose backward pass the attacks replace.
        saturated: Share of images whose cross-entropy has no gradient although their
            logits have one.
        gap: Median difference of the two largest logits.
        classes: Number of logits.
        naive: The model as seen by an attacker who ignores all defences.
        adaptive: The model as seen by an attacker who knows everything.
        rejects: Whether it declares that its last class means "adversarial".
        whole_input: The integer dtype of its images, "" for floats.
        differs_under_attack: Whether runs differ on attacked images only.
    """

    cards: dict[str, DefenceCard]
    is_random: bool
    spread: float
    score_total: float
    certain: float
    no_gradient: float
    no_gradient_by_identity: float
    bpda_layers: tuple[keras.Operation, ...]
    saturated: float
    gap: float
    classes: int
    naive: ModelView
    adaptive: ModelView
    rejects: bool = False
    whole_input: str = ""
    differs_under_attack: bool = False

    @property
    def has_gradient(self) -> bool:
        """Whether attacks can use gradients, if necessary past `bpda_layers`."""
        return self.no_gradient_by_identity <= LARGEST_SHARE

    @property
    def is_declared_random(self) -> bool:
        """Whether a card says that the model is random."""
        return any(card.eot_samples > 1 for card in self.cards.values())

    @property
    def draws(self) -> int:
        """Draws over which attacks average gradients."""
        if not self.is_random:
            return 1
        model = self.adaptive.model
        averaged = model.averaged_draws if isinstance(model, LogitsModel) else 1
        wanted = [_DEFAULT_DRAWS, *(c.eot_samples for c in self.cards.values())]
        return math.ceil(max(wanted) / averaged)

    def random_under_attack(self) -> "ProbeResult":
        """Returns these findings about a model that is random on attacked images."""
        return dataclasses.replace(
            self,
            is_random=True,
            differs_under_attack=True,
            adaptive=dataclasses.replace(self.adaptive, is_random=True),
        )

    @property
    def is_plain(self) -> bool:
        """Whether the naive and the adaptive attacker see the same model."""
        differs = self.is_random or self.naive.bypass_defences or bool(self.bpda_layers)
        return self.has_gradient and not differs


def probe(
    evaluated: EvaluatedModel,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    value_range: ValueRange,
    seed: int,
) -> ProbeResult:
    """Runs a model a few times and returns the findings.

    Args:
        evaluated: The evaluated model and its cards.
        images: Images in the value range, of which the first are looked at.
        labels: Their classes.
        value_range: Range of the pixels.
        seed: Seed of the draws.
    """
    model = evaluated.model
    images, labels = images[:_IMAGES], labels[:_IMAGES]
    runs = [
        _logits(model, images, value_range, seed=derived_seed(seed, run))
        for run in range(_RUNS)
    ]
    first, share = runs[0], rounding_share(model)
    spread = max(float(differences(first, run).max()) for run in runs)
    is_random = any(differing_rows(first, run, share).any() for run in runs)
    plain = ModelView(model, is_random=is_random)
    look = _Look(images, labels, pixels=value_range, seed=seed)
    slopes = look.slopes(plain)
    no_gradient = float(slopes.missing.mean())
    bpda_layers: tuple[keras.Operation, ...] = ()
    adaptive, repaired = plain, slopes
    if no_gradient > LARGEST_SHARE:
        masking, _ = offending_operations(model, lambda: look.logits(plain))
        bpda_layers = tuple(masking)
        adaptive = dataclasses.replace(plain, bpda_layers=bpda_layers)
        repaired = look.slopes(adaptive) if bpda_layers else slopes
    mends = float(repaired.missing.mean())
    top = np.sort(look.logits(plain).numpy(), axis=-1)
    gap = float(np.median(top[:, -1] - top[:, -2]))
    total = score_total(model)
    saturated = float((repaired.flat & ~repaired.missing).mean())
    adaptive = dataclasses.replace(
        adaptive,
        smooth_gradients=True,
        has_gradient=mends <= LARGEST_SHARE,
        temperature=max(1.0, gap) if saturated > LARGEST_SHARE else 1.0,
    )
    return ProbeResult(
        cards=evaluated.cards,
        is_random=is_random,
        spread=spread,
        score_total=total,
        certain=float((top[:, -2] < _CERTAIN).mean()) if total else 0.0,
        no_gradient=no_gradient,
        no_gradient_by_identity=mends,
        bpda_layers=bpda_layers,
        saturated=saturated,
        gap=gap,
        classes=first.shape[1],
        naive=dataclasses.replace(
            plain,
            bypass_defences=evaluated.can_bypass,
            is_random=False,
            has_gradient=not slopes.is_absent,
        ),
        adaptive=adaptive,
        rejects=isinstance(model, LogitsModel) and model.rejects,
        whole_input=evaluated.whole_input,
    )


def _logits(
    model: Any, images: np.ndarray, value_range: ValueRange, *, seed: int
) -> np.ndarray:
    logits_fn = LogitsFunction(model, value_range=value_range)
    logits_fn.build(images.shape[1:])
    unit = value_range.to_unit(tf.cast(images, tf.float32))
    with draw_scope(make_key(seed)):
        return logits_fn(unit).numpy()


@dataclasses.dataclass(frozen=True)
class _Slopes:
    """Which images lack an input gradient, of the margin and of the cross-entropy."""

    missing: np.ndarray
    flat: np.ndarray
    is_absent: bool


class _Look:
    """Takes gradients of a view on the probe's images, eagerly."""

    def __init__(
        self, images: np.ndarray, labels: np.ndarray, *, pixels: ValueRange, seed: int
    ) -> None:
        self._unit = pixels.to_unit(tf.cast(images, tf.float32))
        self._labels = tf.constant(labels)
        self._pixels = pixels
        self._key = make_key(derived_seed(seed, "slopes"))

    def logits(self, view: ModelView) -> tf.Tensor:
        logits_fn = LogitsFunction(view, value_range=self._pixels)
        with draw_scope(self._key):
            return logits_fn(self._unit)

    def slopes(self, view: ModelView) -> _Slopes:
        scale = LogitsFunction(view).gradient_scale
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(self._unit)
            logits = self.logits(view)
            own = tf.one_hot(self._labels, logits.shape[1])
            # The best of the others, as a sum that keeps all their gradients.
            others = tf.reduce_logsumexp(logits - 1e9 * own, axis=1)
            margin = scale * tf.reduce_sum(logits * own, axis=1) - scale * others
            entropy = scale * tf.nn.softmax_cross_entropy_with_logits(own, logits)
        count = len(self._labels)
        slope = tape.gradient(margin, self._unit)
        return _Slopes(
            missing=defective(slope, count),
            flat=defective(tape.gradient(entropy, self._unit), count),
            is_absent=slope is None,
        )
