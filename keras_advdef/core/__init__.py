"""Bases and tools for new defences, and what all other folders build on.

Files in this folder know Keras and TensorFlow, but no other folder of the package.
"""

from keras_advdef.core.cards import Break, DefenceCard, defence
from keras_advdef.core.gradients import straight_through
from keras_advdef.core.interval import Interval
from keras_advdef.core.interval_rule import interval_rule
from keras_advdef.core.logits import LogitsFunction, LogitsModel
from keras_advdef.core.model_view import ModelView
from keras_advdef.core.random_state import RandomLayer, draw_scope

__all__ = [
    "Break",
    "DefenceCard",
    "Interval",
    "LogitsFunction",
    "LogitsModel",
    "ModelView",
    "RandomLayer",
    "defence",
    "draw_scope",
    "interval_rule",
    "straight_through",
]
