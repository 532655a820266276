"""IntervalCertificates: what `certify_intervals` returns."""

from typing import NamedTuple

import numpy as np


class IntervalCertificates(NamedTuple):
    """What is proved about images.

    Args:
        certified: Booleans `(count,)`: no perturbation changes the true class.
        margins: Float64 `(count,)`: by how much the true logit stays above all others,
            at least; negative where nothing is proved.

    Example:

    >>> found = keras_advdef.evaluation.IntervalCertificates(
    ...     np.array([True, False]), np.array([0.5, -0.25]))
    >>> float(found.certified.mean())
    0.5
    """

    certified: np.ndarray
    margins: np.ndarray
