"""Stage: one attack of an evaluation, with its view of the model."""

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
        label: Name of the attack, for readers.
        role: "naive"; "check" for attacks that are compared on the first images;
            "adaptive" for attacks on the images that are still unbroken; "closing" for
            those that a failed check asks for; "curve" for attacks at other epsilons;
            "trial" for attacks that break nothing.
        attack: The attack, which has an epsilon.
        view: The model as the attack sees it.
        stop_early: Whether the attack may stop on an image once it is broken.
        target_rank: Rank of the wrong class to reach, 1 for the likeliest; 0 for any.
        epsilon: An epsilon that overrides the attack's, or `None`.
        images: Number of images that it is given at most, or `None` for all.
        alone: Whether each image is attacked and judged in a batch of its own.
    """

    key: str
    label: str
    role: Literal["naive", "check", "adaptive", "closing", "curve", "trial"]
    attack: Attack
    view: ModelView
    stop_early: bool = True
    target_rank: int = 0
    epsilon: float | None = None
    images: int | None = None
    alone: bool = False

    @property
    def lets_leave(self) -> bool:
        """Whether the attack stops on broken images; only some attacks can."""
        return self.stop_early and isinstance(self.attack, SteppedAttack)

    def passes(self, classes: int) -> int:
        """Returns the largest number of model passes that one image may cost.

        A forward and a backward pass together count as one. So does a pass of a model
        that searches a latent space, however many generator passes it takes: budgets
        compare attacks, and the time is estimated before they start.

        Args:
            classes: Number of logits.
        """
        return max(self.attack.passes(classes, self.view))

    def moves(self, classes: int) -> int:
        """Returns the number of steps for an image that is never broken.

        Args:
            classes: Number of logits.
        """
        if isinstance(self.attack, SteppedAttack):
            return self.attack.runs(classes) * self.attack.steps
        return 1
