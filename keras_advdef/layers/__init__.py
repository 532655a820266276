"""Layers that carry a defence inside the model."""

from keras_advdef.layers.bit_depth_reduction import BitDepthReduction
from keras_advdef.layers.convex_combination import ConvexCombination
from keras_advdef.layers.generative_projection import GenerativeProjection
from keras_advdef.layers.image_quilting import ImageQuilting
from keras_advdef.layers.input_transform import InputTransform
from keras_advdef.layers.jpeg_compression import JPEGCompression
from keras_advdef.layers.median_smoothing import MedianSmoothing
from keras_advdef.layers.non_local_means import NonLocalMeans
from keras_advdef.layers.parseval_conv2d import ParsevalConv2D
from keras_advdef.layers.random_noise import RandomNoise
from keras_advdef.layers.random_resize_pad import RandomResizePad
from keras_advdef.layers.set_kl_weight import set_kl_weight
from keras_advdef.layers.stochastic_activation_pruning import (
    StochasticActivationPruning,
)
from keras_advdef.layers.total_variation_minimization import TotalVariationMinimization
from keras_advdef.layers.variational_conv2d import VariationalConv2D
from keras_advdef.layers.variational_dense import VariationalDense
from keras_advdef.layers.variational_depthwise_conv2d import VariationalDepthwiseConv2D
from keras_advdef.layers.variational_layer import VariationalLayer

__all__ = [
    "BitDepthReduction",
    "ConvexCombination",
    "GenerativeProjection",
    "ImageQuilting",
    "InputTransform",
    "JPEGCompression",
    "MedianSmoothing",
    "NonLocalMeans",
    "ParsevalConv2D",
    "RandomNoise",
    "RandomResizePad",
    "StochasticActivationPruning",
    "TotalVariationMinimization",
    "VariationalConv2D",
    "VariationalDense",
    "VariationalDepthwiseConv2D",
    "VariationalLayer",
    "set_kl_weight",
]
