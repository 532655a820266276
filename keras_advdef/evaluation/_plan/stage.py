"""Stage: one attack of an evaluation, with the view it has and the images it gets."""

import dataclasses
from typing import Literal

from keras_advdef.attacks.attack import Attack
from keras_advdef.attacks.stepped_attack import SteppedAttack
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
        return self.stop_early and isinstance(self.attack, SteppedAttack)

    def passes(self, classes: int) -> int:
        """Returns the most model passes that one image may cost.

        A forward and a backward pass together count as one. A pass of a model that
        searches a latent space counts as one, too, however many of its generator it
        takes: budgets compare attacks, and the time is told before they start.

        Args:
            classes: Number of logits.
        """
        return max(self.attack.passes(classes, self.view))

    def moves(self, classes: int) -> int:
        """Returns the steps of an image that never leaves the attack.

        Args:
            classes: Number of logits.
        """
        if isinstance(self.attack, SteppedAttack):
            return self.attack.runs(classes) * self.attack.steps
        return 1
