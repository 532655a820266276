"""Rewrites existing models: adds noise or pruning, or makes weights random."""

from keras_advdef.surgery.insert_noise import insert_noise
from keras_advdef.surgery.insert_pruning import insert_pruning
from keras_advdef.surgery.parseval_network import parseval_network
from keras_advdef.surgery.rewrite import rewrite
from keras_advdef.surgery.split_activation import split_activation
from keras_advdef.surgery.to_variational import to_variational

__all__ = [
    "insert_noise",
    "insert_pruning",
    "parseval_network",
    "rewrite",
    "split_activation",
    "to_variational",
]
