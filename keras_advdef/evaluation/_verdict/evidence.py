"""Evidence: the measurements that the sanity checks use."""

import dataclasses

import numpy as np

from keras_advdef.evaluation._plan.probe_result import ProbeResult
from keras_advdef.evaluation._plan.true_gradients import TrueGradients
from keras_advdef.evaluation.accuracy_estimate import AccuracyEstimate
from keras_advdef.evaluation.check import Check


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """The measurements that the checks use.

    Attributes:
        chance: Whether clean images are classified better than by chance.
        probed: What the probe found out about the model.
        truth: What steps along the gradient gain, for the first images.
        broken: For each check attack, which of the first images it broke.
        attacks: Name of each check attack, for readers.
        absent: For each check attack that did not run, why not, as half a sentence.
        labels: Classes of all images.
        checked: Indices of the images that the check attacks were given, in order;
            some attacks were given only the first of them.
        naive: For each image, the share of draws on which it is misclassified, clean
            or under the naive attack.
        adaptive: The same under the worst of all attacks.
        at_full_range: Accuracy under a gradient attack without bounds, of the images
            that are classified correctly without it.
        rejected: The class that means "adversarial", or `None`.
        rejections: Share of the naively attacked images predicted as that class.
        undecided: Attacked images for which the model gives NaN or infinity.
        steady: Whether the model still answers as it did.
        planted: Whether the attacks find perturbations that certainly exist.
        converged: Whether more steps would break no more images.
        smooth: Whether the loss is smooth enough for gradients.
    """

    chance: Check
    probed: ProbeResult
    truth: TrueGradients | None
    broken: dict[str, np.ndarray]
    attacks: dict[str, str]
    absent: dict[str, str]
    labels: np.ndarray
    checked: np.ndarray
    naive: np.ndarray
    adaptive: np.ndarray
    at_full_range: AccuracyEstimate
    rejected: int | None
    rejections: float
    undecided: int
    steady: Check
    planted: Check
    converged: Check
    smooth: Check
