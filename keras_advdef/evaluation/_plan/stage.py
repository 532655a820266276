"""Stage: one attack of an evaluation, with the view it has and the images it gets."""

import dataclasses
from typing import Literal

from keras_advdef.attacks.attack import Attack
from keras_advdef.attacks.auto_attack import AutoAttack
from keras_advdef.attacks.fab import FAB
from keras_advdef.attacks.hop_skip_jump import HopSkipJump
from keras_advdef.attacks.latent_space_attack import LatentSpaceAttack
from keras_advdef.attacks.spsa import SPSA
from keras_advdef.attacks.stepped_attack import SteppedAttack
from keras_advdef.attacks.transfer import Transfer
from keras_advdef.core.model_view import ModelView


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """One attack to run.

    Attributes:
        key: Name of the stage, unique in the evaluation and fit for a file name.
        label: What a reader calls the attack.
        role: "naive"; "check" for attacks that run alone on the first images, to be
            compared; "adaptive" for those on what still stands; "curve" for other
            epsilons than the evaluation's.
        attack: The attack, which has an epsilon.
        view: The model as it sees it.
        stop_early: Whether images may leave as soon as they are broken.
        target_rank: Which wrong class to reach, counted from the likeliest at 1; 0 for
            any.
        epsilon: Another radius than the attack's, or `None`.
    """

    key: str
    label: str
    role: Literal["naive", "check", "adaptive", "curve"]
    attack: Attack
    view: ModelView
    stop_early: bool = True
    target_rank: int = 0
    epsilon: float | None = None

    @property
    def lets_leave(self) -> bool:
        """Whether broken images leave the attack; only some attacks can do that."""
        return self.stop_early and isinstance(self.attack, (SteppedAttack, FAB))

    def passes(self, classes: int) -> int:
        """Returns the most model passes that one image may cost.

        A forward and a backward pass together count as one. A pass of a model that
        searches a latent space counts as one, too, however many of its generator it
        takes: budgets compare attacks, and the time is told before they start.

        Args:
            classes: Number of logits.
        """
        if isinstance(self.attack, LatentSpaceAttack):
            return self.attack.passes(self.view)
        return passes_of(self.attack, classes)

    def moves(self, classes: int) -> int:
        """Returns the steps of an image that never leaves the attack.

        Args:
            classes: Number of logits.
        """
        if isinstance(self.attack, (SteppedAttack, FAB)):
            return self.attack.runs(classes) * self.attack.steps
        return 1


def passes_of(attack: Attack, classes: int) -> int:
    """Returns the most model passes that an attack may spend on one image.

    Args:
        attack: The attack.
        classes: Number of logits.

    Example:

    >>> from keras_advdef.evaluation._plan.stage import passes_of
    >>> passes_of(keras_advdef.attacks.PGD(0.1, steps=40, restarts=5), 10)
    205
    """
    if isinstance(attack, Transfer):
        return passes_of(attack.attack, classes) + 1
    if isinstance(attack, AutoAttack):
        return sum(passes_of(each, classes) for each in attack.attacks)
    draws = getattr(attack, "eot_samples", 1)
    if isinstance(attack, HopSkipJump):
        # The number of evaluations grows with the root of the step's number.
        ends = attack.initial_evaluations, attack.max_evaluations
        each = [
            min(ends[0] * step**0.5, ends[1]) for step in range(1, attack.steps + 1)
        ]
        return int(sum(each)) + attack.starting_tries
    if isinstance(attack, SPSA):
        return attack.runs(classes) * attack.steps * 2 * attack.samples
    if isinstance(attack, (SteppedAttack, FAB)):
        slopes = classes if isinstance(attack, FAB) and not attack.target_classes else 1
        return attack.runs(classes) * (attack.steps * slopes + 1) * draws
    searches = getattr(attack, "binary_search_steps", 1)
    slopes = min(getattr(attack, "candidates", 1), classes)
    return searches * slopes * getattr(attack, "steps", 1) * draws
