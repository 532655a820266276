"""AutoAttack: four attacks without tuning, each on the images the others left."""

from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.attacks._early_stopping import run_slots
from keras_advdef.attacks._job import Job, SubJob
from keras_advdef.attacks._nearest_dlr import NearestDLR
from keras_advdef.attacks._success import confirm
from keras_advdef.attacks.apgd import APGD
from keras_advdef.attacks.attack import Attack, Passes
from keras_advdef.attacks.fab import FAB
from keras_advdef.attacks.losses.targeted_dlr import TargetedDLR
from keras_advdef.attacks.square import Square
from keras_advdef.attacks.stepped_attack import SteppedAttack
from keras_advdef.core.errors import checked_choice, checked_integer
from keras_advdef.core.logits import LogitsFunction
from keras_advdef.core.norms import per_image
from keras_advdef.core.random_numbers import fold_in

_VERSIONS = ("standard", "fast", "plus", "rand")
_RAND_DRAWS = 20
_TARGETS = 9
_L1_TARGETS = 5
_RESTARTS = 5
# In "fast", and by what the standard's steps of FAB and queries are divided.
_NEAREST = 3
_FAST_RESTARTS = 2
_FEWER_STEPS = 2
_FEWER_QUERIES = 5


@keras.saving.register_keras_serializable(package="keras_advdef")
class AutoAttack(Attack):
    """The attacks of Croce and Hein in their order, on the images not yet broken.

    - "standard": APGD on the cross-entropy, APGD on the targeted DLR and targeted FAB
      (nine target classes each, or all wrong ones if there are fewer), then Square.
    - "fast": the same in about a fifth of the passes. The targeted DLR aims at three
      classes only, the nearest where the model is linearized (Melamed et al. 2024,
      "MALT powers up adversarial attacks", NeurIPS). FAB has half the steps and one
      run, whose steps go to the nearest of three classes, and Square has a fifth of the
      queries. `benchmarks/results.md` compares both versions image by image.
    - "plus": five restarts of APGD on both losses and of FAB first, then Square, and
      both targeted attacks.
    - "rand", for random models: APGD on both losses with gradients averaged over 20
      draws.

    In the l1 ball APGD restarts five times, and there are five target classes; in
    "fast", it restarts twice, and there are three. Below four classes the
    targeted DLR is the logit margin, and a warning says so (Croce and Hein 2020,
    "Reliable evaluation of adversarial robustness with an ensemble of diverse
    parameter-free attacks", ICML).

    Unbroken images come back clean, and so do those misclassified from the start.
    Broken images leave between and within the attacks, whatever `stop_early` is. On a
    random model, success counts only if it holds on fresh draws.

    Args:
        epsilon: Number of at least 0. Radius of the ball, in the units of
            `value_range`; `None` if each call gives it.
        version: "standard", "fast", "plus" or "rand".
        steps: Steps of each run of APGD and FAB; 100 is the standard.
        queries: Queries of Square; 5000 is the standard. "fast" takes a fifth of them.
        **kwargs: `norm`, `training`, `precision` and `value_range`; see `Attack`.

    Raises:
        ValueError: If an argument is outside its bounds.

    Example:

    >>> attack = keras_advdef.attacks.AutoAttack(8 / 255)
    >>> [str(each) for each in attack.attacks]
    ['APGD-100 on cross_entropy', 'APGD-100 on TargetedDLR', 'FAB-100', 'Square-5000']
    """

    settled: ClassVar[dict[str, Any]] = {"targeted": False, "eot_samples": 1}

    def __init__(
        self,
        epsilon: float | None = None,
        *,
        version: str = "standard",
        steps: int = 100,
        queries: int = 5000,
        **kwargs: Any,
    ) -> None:
        super().__init__(epsilon, **self.with_settled(kwargs))
        owner = "AutoAttack"
        self.version = checked_choice(owner, "version", version, _VERSIONS)
        self.steps = checked_integer(owner, "steps", steps, low=1)
        self.queries = checked_integer(owner, "queries", queries, low=1)
        self.attacks = self._members()

    def _members(self) -> list[SteppedAttack]:
        common = {
            "training": self.training,
            "precision": self.precision,
            "value_range": tuple(self.value_range),
        }
        stepped = {**common, "norm": self.norm, "steps": self.steps}
        sparse = self.norm == "l1"
        targets = _L1_TARGETS if sparse else _TARGETS
        aimed = {**stepped, "restarts": _RESTARTS if sparse else 1}
        if self.version == "rand":
            drawn = {**stepped, "eot_samples": _RAND_DRAWS}
            return [APGD(loss=loss, **drawn) for loss in ("cross_entropy", "dlr")]
        if self.version == "fast":
            return self._fast_members(common)
        square = Square(norm=self.norm, queries=self.queries, **common)
        targeted = [
            APGD(loss=TargetedDLR(targets), **aimed),
            FAB(target_classes=targets, **stepped),
        ]
        if self.version == "standard":
            return [APGD(**aimed), *targeted, square]
        often = {**stepped, "restarts": _RESTARTS}
        untargeted = [APGD(**often), APGD(loss="dlr", **often), FAB(**often)]
        return [*untargeted, square, *targeted]

    def _fast_members(self, common: dict[str, Any]) -> list[SteppedAttack]:
        sparse = self.norm == "l1"
        common = {"norm": self.norm, **common}
        aimed = {"steps": self.steps, "restarts": _FAST_RESTARTS if sparse else 1}
        nearest = NearestDLR(_NEAREST, candidates=_TARGETS, norm=self.norm)
        fewer = max(1, self.steps // _FEWER_STEPS)
        return [
            APGD(**aimed, **common),
            APGD(loss=nearest, **aimed, **common),
            FAB(candidates=_NEAREST, steps=fewer, **common),
            Square(queries=max(1, self.queries // _FEWER_QUERIES), **common),
        ]

    def perturb(
        self,
        logits_fn: LogitsFunction,
        images: tf.Tensor,
        labels: tf.Tensor,
        epsilon: tf.Tensor,
        seed: tf.Tensor,
    ) -> tf.Tensor:
        """Returns adversarial images in `[0, 1]`; see `Attack.perturb`."""
        key = fold_in(seed, 0)
        broken = self.confirm(logits_fn, images, labels, key)
        result = images
        for index, attack in enumerate(self.attacks, 1):
            key = fold_in(seed, index)
            found = attack.perturb(logits_fn, images, labels, epsilon, key)
            # Not the attack's key, with which it may have confirmed its own success.
            success = self.confirm(logits_fn, found, labels, fold_in(seed, -index))
            success &= ~broken
            wide = per_image(success, images)
            result = tf.where(wide, found, result)
            broken |= success
        return result

    def passes(self, classes: int, model: Any = None) -> Passes:
        """Returns what one image costs; see `Attack.passes`."""
        draws = _RAND_DRAWS if self.version == "rand" else 1
        each = [attack.passes(classes, model) for attack in self.attacks]
        looks = draws * (len(each) + 1)
        return Passes(
            sum(one.forward for one in each) + looks, sum(one.backward for one in each)
        )

    def confirm(
        self,
        logits_fn: LogitsFunction,
        images: tf.Tensor,
        labels: tf.Tensor,
        key: tf.Tensor,
    ) -> tf.Tensor:
        """Returns whether images succeed in float32 and on fresh draws."""
        samples = _RAND_DRAWS if self.version == "rand" else 1
        return confirm(logits_fn, images, labels, key, targeted=False, samples=samples)

    def fill(self, job: Job, epsilon: tf.Tensor, *, stop_early: bool) -> None:
        """Fills the job's result; each attack gets the images not yet broken."""
        del stop_early
        standing = np.flatnonzero(job.predictions() == job.labels)
        for index, attack in enumerate(self.attacks, 1):
            if not standing.size:
                return
            part = SubJob(job, attack, standing, fold_in(job.key, index))
            run_slots(attack, part, epsilon)
            standing = standing[~part.broken]
