"""The exported model equals the evaluated one, in every format that supports it."""

import contextlib

import keras
import numpy as np
import pytest

from keras_advdef.attacks import PGD
from keras_advdef.layers import (
    BitDepthReduction,
    ConvexCombination,
    ImageQuilting,
    JPEGCompression,
    MedianSmoothing,
    NonLocalMeans,
    ParsevalConv2D,
    RandomNoise,
    RandomResizePad,
    TotalVariationMinimization,
)
from keras_advdef.models import (
    AveragingEnsemble,
    DefenseGAN,
    FeatureSqueezingDetector,
    RandomSelfEnsemble,
    SmoothedClassifier,
)
from keras_advdef.training import (
    AdversarialTrainingModel,
    DistillationTrainer,
    WassersteinGAN,
)
from tests.support.cases import LAYERS, case_id, first_of_each_class, made
from tests.support.formats import (
    FORMATS,
    assert_serves,
    exported,
    is_written,
    quiet_converters,
)
from tests.support.generators import small_generator
from tests.support.nets import linear_net, small_net

pytestmark = quiet_converters
_TOLERANCES = {"tf_saved_model": 1e-5, "onnx": 1e-4, "litert": 1e-4}
_FOREIGN = ("litert", "onnx")


def colours():
    generator = np.random.default_rng(3)
    return generator.uniform(0.05, 0.95, (5, 8, 8, 3)).astype("float32")


def augmented_net(**arguments):
    """A classifier with augmentation inside, as in Keras's guides."""
    augmentation = keras.layers.RandomFlip(), keras.layers.RandomTranslation(0.1, 0.1)
    return small_net(front=augmentation, **arguments)


# ------------------------------------------------------------- plain Keras models


def quilting():
    layer = ImageQuilting(neighbors=1)
    layer.adapt(np.random.default_rng(4).uniform(size=(3, 8, 8, 3)))
    return layer


def combination():
    combine = ConvexCombination()
    return lambda images: combine([images, 1.0 - images])


# Every layer that draws nothing, in each variant that computes differently.
STILL = {
    "BitDepthReduction": lambda: BitDepthReduction(3),
    "JPEGCompression": lambda: JPEGCompression(50),
    "MedianSmoothing": lambda: MedianSmoothing(3),
    "NonLocalMeans": lambda: NonLocalMeans(search=5),
    "TotalVariationMinimization": lambda: TotalVariationMinimization(
        keep_probability=1.0, steps=8
    ),
    "ImageQuilting": quilting,
    "ConvexCombination": combination,
    "ParsevalConv2D": lambda: ParsevalConv2D(2, 3, padding="same"),
    "RandomNoise": lambda: RandomNoise(0.0),
    "RandomResizePad": lambda: RandomResizePad(8, active="training"),
}


# Those whose graphs take ONNX's converter long.
_LARGE = ("ImageQuilting", "JPEGCompression")


@pytest.mark.parametrize(
    ("format", "names"),
    [
        # Of quilting's lists of tensors of any size, LiteRT has only interpreters with
        # TensorFlow inside.
        ("litert", [each for each in STILL if each != "ImageQuilting"]),
        ("onnx", [each for each in STILL if each not in _LARGE]),
        pytest.param("onnx", _LARGE, marks=pytest.mark.nightly),
    ],
    ids=["litert", "onnx", "onnx-large"],
)
def test_layers_without_randomness(format, names, tmp_path):
    """Exports several of them side by side with Keras's own `export`."""
    inputs, images = keras.Input((8, 8, 3)), colours()
    net = keras.Model(inputs, {name: STILL[name]()(inputs) for name in names})
    expected = net.predict(images, verbose=0)
    run = exported(net, format, tmp_path)
    assert_serves(run(images), expected, _TOLERANCES[format])


@pytest.mark.parametrize(
    ("cls", "arguments"),
    [
        case
        for case in first_of_each_class(LAYERS)
        if made(*case, np.full((4, 8, 8, 1), 0.5, "float32")).draws
    ],
    ids=case_id,
)
def test_layers_that_draw_say_so_before_anything_is_written(
    cls, arguments, images, tmp_path
):
    net = small_net(front=[made(cls, arguments, images)])
    net(images)
    # The whole message: Keras adds nothing about the call that raised it.
    rule = rf"^`{cls.__name__}` expects `format` to be a format in .* `format=\S+\.$"
    for format in _FOREIGN:
        with pytest.raises(ValueError, match=rule):
            exported(net, format, tmp_path)
    assert not is_written(tmp_path)


@pytest.mark.parametrize(
    "layer", [RandomNoise(0.1), MedianSmoothing(3)], ids=["random", "plain"]
)
def test_a_model_works_on_after_a_conversion(layer, images, tmp_path):
    net = small_net(front=[layer])
    net(images)
    with contextlib.suppress(ValueError):
        exported(net, "onnx", tmp_path)
    assert net(images).shape == (6, 3)
    assert net.predict(images, verbose=0).shape == (6, 3)
    PGD(0.1, steps=1).generate(net, images, np.zeros(6, int), verbose=0)
    exported(net, "tf_saved_model", tmp_path)


# ------------------------------------------------------------- models of this package


def gan():
    critic = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(1)]
    )
    return WassersteinGAN(small_generator(), critic, latent_dim=4)


def detector():
    made = FeatureSqueezingDetector(augmented_net(), [BitDepthReduction(2)])
    made.threshold.assign(0.01)
    return made


DETERMINISTIC = {
    "AdversarialTrainingModel": lambda: AdversarialTrainingModel(
        augmented_net(head="softmax"), PGD(0.1)
    ),
    "DistillationTrainer": lambda: DistillationTrainer(augmented_net()),
    "AveragingEnsemble": lambda: AveragingEnsemble([augmented_net(), small_net()]),
    "RandomSelfEnsemble": lambda: RandomSelfEnsemble(augmented_net(), samples=2),
    "FeatureSqueezingDetector": detector,
    "WassersteinGAN": gan,
}
RANDOM = {
    "RandomSelfEnsemble": lambda: RandomSelfEnsemble(
        small_net(front=[RandomNoise(0.3)]), samples=2
    ),
    "SmoothedClassifier": lambda: SmoothedClassifier(
        linear_net(np.eye(64)[::30], np.zeros(3), (8, 8, 1)), stddev=1.0, samples=99
    ),
    "DefenseGAN": lambda: DefenseGAN(small_generator(), augmented_net(), steps=2),
}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_models_export_what_they_predict(name, format, images, tmp_path):
    model = DETERMINISTIC[name]()
    inputs = images.reshape(6, -1)[:, :4] if name == "WassersteinGAN" else images
    expected = model.predict(inputs, verbose=0)
    run = exported(model, format, tmp_path)
    for _ in range(2):
        assert_serves(run(inputs), expected, _TOLERANCES[format])


@pytest.mark.parametrize("name", RANDOM)
def test_random_models_go_on_drawing(name, images, tmp_path):
    run = exported(RANDOM[name](), "tf_saved_model", tmp_path)
    found = [np.concatenate([v.ravel() for v in run(images).values()]) for _ in "ab"]
    assert not np.array_equal(*found)


@pytest.mark.parametrize("name", RANDOM)
def test_random_models_refuse_formats_without_draws(name, tmp_path):
    model = RANDOM[name]()
    for format in _FOREIGN:
        with pytest.raises(
            ValueError, match=r"^`.*` expects `format` to be a format in which"
        ):
            exported(model, format, tmp_path)
    assert not is_written(tmp_path)
