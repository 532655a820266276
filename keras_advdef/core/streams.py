"""Numbers that separate the draws made from one key.

A step of an attack folds its index, 0, 1, 2, ..., into the key it gets. Draws outside
of the steps fold in one of these numbers, which no index reaches. Where two of them are
equal, the draws never use the same key. Do not change a value: the same seed would give
other images.
"""

_FIRST = 2**30

# Training: the model under the first penalty; the others follow.
PENALTIES = _FIRST

# All attacks: the model's predictions, used in place of missing labels.
PREDICTION = _FIRST
# All attacks: the pass that only checks for finite logits on the clean images.
FINITE_CHECK = _FIRST + 10
# All attacks: the check of a success, on draws that the attack has not seen.
CONFIRMATION = _FIRST + 3

# Gradient attacks: the random start.
GRADIENT_START = _FIRST + 1
# Gradient attacks: the forward pass on the final point.
LAST_POINT = _FIRST + 2
# Square: the stripes or tiles it starts from.
SQUARE_START = _FIRST + 8

# Minimal attacks: the pass that finds images that are already misclassified.
CLEAN_SUCCESS = _FIRST + 4
# Boundary attack and HopSkipJump: the distant point where the walk starts.
WALK_START = _FIRST + 6
# Boundary attack and HopSkipJump: the classes of the batch, for targeted starts.
DONORS = _FIRST + 5
# DeepFool: the pass that checks whether a step has crossed the boundary.
DEEP_FOOL_CHECK = _FIRST + 7
# JSMA: the most likely wrong class of the clean image.
JSMA_TARGET = _FIRST + 8
# FAB: the classes to try, and the points where restarts begin.
FAB_START = _FIRST + 8
# FAB: the pass that checks whether a step has crossed the boundary.
FAB_CHECK = _FIRST + 9
# DDN: the direction where the gradient vanishes.
DDN_DIRECTION = _FIRST + 11
