"""Layers that carry a defence inside the model."""

from keras_advdef.layers.bit_depth_reduction import BitDepthReduction
from keras_advdef.layers.image_quilting import ImageQuilting
from keras_advdef.layers.input_transform import InputTransform
from keras_advdef.layers.jpeg_compression import JPEGCompression
from keras_advdef.layers.median_smoothing import MedianSmoothing
from keras_advdef.layers.non_local_means import NonLocalMeans
from keras_advdef.layers.random_noise import RandomNoise
from keras_advdef.layers.random_resize_pad import RandomResizePad
from keras_advdef.layers.total_variation_minimization import TotalVariationMinimization

__all__ = [
    "BitDepthReduction",
    "ImageQuilting",
    "InputTransform",
    "JPEGCompression",
    "MedianSmoothing",
    "NonLocalMeans",
    "RandomNoise",
    "RandomResizePad",
    "TotalVariationMinimization",
]
