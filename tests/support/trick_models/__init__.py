"""Models that only look robust, honest nets beside them, and an attack that knows."""

from tests.support.trick_models import (
    activations,
    detectors,
    draws,
    false_gradients,
    inputs,
    scores,
    state,
)
from tests.support.trick_models.honest import HONEST

FAMILIES = {
    "Gradients that are false": false_gradients.TRICKS,
    "Scores": scores.TRICKS,
    "Images changed before the net": inputs.TRICKS,
    "Activations": activations.TRICKS,
    "Random draws": draws.TRICKS,
    "State and batch": state.TRICKS,
    "Detectors": detectors.TRICKS,
}
TRICKS = [trick for tricks in FAMILIES.values() for trick in tricks]

__all__ = ["FAMILIES", "HONEST", "TRICKS"]
