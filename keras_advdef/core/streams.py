"""The numbers that tell draws of one key apart, all in one place.

A step folds its own number, 0, 1, 2, ..., into the key it gets. Draws that belong to no
step fold in one of these, which no step reaches. Draws of the same number never share a
key. Every value is fixed: another one gives other images for the same seed.
"""

_FIRST = 2**30

# Training: the model under the first penalty; the others follow.
PENALTIES = _FIRST

# All attacks: the model's predictions, where they stand for missing labels.
PREDICTION = _FIRST
# All attacks: the pass that only checks for finite logits on the clean images.
FINITE_CHECK = _FIRST + 10
# All attacks: the second look at a success, on draws the attack has not seen.
CONFIRMATION = _FIRST + 3

# Gradient attacks: the random start.
GRADIENT_START = _FIRST + 1
# Gradient attacks: the forward pass on the last point.
LAST_POINT = _FIRST + 2
# Square: the stripes or tiles it starts from.
SQUARE_START = _FIRST + 8

# Minimal attacks: the pass that finds the images that are wrong already.
CLEAN_SUCCESS = _FIRST + 4
# Boundary attack and HopSkipJump: the far point from which the walk starts.
WALK_START = _FIRST + 6
# Boundary attack and HopSkipJump: the classes of the batch, for targeted starts.
DONORS = _FIRST + 5
# DeepFool: the pass that looks whether a step has crossed the boundary.
DEEP_FOOL_CHECK = _FIRST + 7
# JSMA: the likeliest wrong class of the clean image.
JSMA_TARGET = _FIRST + 8
# FAB: the classes to try, and the points where restarts begin.
FAB_START = _FIRST + 8
# FAB: the pass that looks whether a step has crossed the boundary.
FAB_CHECK = _FIRST + 9
