"""DistilledSurrogate: a small net taught by the decisions of the evaluated model."""

import functools
import math

import keras
import numpy as np

from keras_advdef.attacks.attack import Attack
from keras_advdef.attacks.pgd import PGD
from keras_advdef.attacks.transfer import Transfer
from keras_advdef.core.value_range import ValueRange
from keras_advdef.evaluation._request.derived_seed import derived_seed
from keras_advdef.evaluation._request.request import Request
from keras_advdef.evaluation._run.judge import Judge
from keras_advdef.evaluation._run.ledger import Arrays, Ledger

# Decisions asked for, at most, and for each image that there is.
_MOST, _PER_IMAGE = 20_000, 100
# In the second half of the rounds, half of the images are attacked on what the net has
# learned so far, which shows it where the model decides otherwise.
_ROUNDS = 4
_EPOCHS = 4
_BATCH = 64
_STEPS = 5
# Images with more pixels than this on a side are made smaller first.
_LONGEST = 48
_SHIFT = 2


class DistilledSurrogate:
    """A net without any defence that decides as the evaluated model does.

    A mask leaves a model's decisions as they are, so whoever asks for enough of them
    gets a net with true gradients, and images crafted on it fool the model (Papernot et
    al. 2017, "Practical black-box attacks against machine learning", ASIACCS).

    Args:
        request: The checked arguments.
        classes: Number of logits.
    """

    def __init__(self, request: Request, classes: int) -> None:
        self._request = request
        self._classes = classes
        self._is_taught = False

    @functools.cached_property
    def model(self) -> keras.Model:
        """The net, from images in the value range to logits; of use once taught."""
        request = self._request
        return _net(
            request.images.shape[1:],
            self._classes,
            pixels=request.value_range,
            seed=derived_seed(request.seed, "distilled"),
        )

    @property
    def queries(self) -> int:
        """Number of decisions that teach it."""
        return min(_MOST, _PER_IMAGE * self._request.count)

    def made(self, attack: Attack) -> bool:
        """Returns whether an attack transfers images from this net.

        Args:
            attack: Any attack.
        """
        source = attack.surrogate if isinstance(attack, Transfer) else None
        return source is not None and source is vars(self).get("model")

    def teach(self, judge: Judge, ledger: Ledger) -> None:
        """Asks the model, unless that was done before, and trains the net.

        Args:
            judge: Runs the evaluated model.
            ledger: Stores the weights.
        """
        if self._is_taught:
            return

        def train() -> Arrays:
            self._train(judge)
            weights = self.model.get_weights()
            return {f"{place:03d}": each for place, each in enumerate(weights)}

        weights = ledger.part("distilled", train, "a net that decides as the model")
        self.model.set_weights([weights[name] for name in sorted(weights)])
        self._is_taught = True

    def _train(self, judge: Judge) -> None:
        self.model.compile(
            keras.optimizers.Adam(2e-3),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=False,
        )
        each = math.ceil(self.queries / _ROUNDS)
        asked, answers = [], []
        for number in range(_ROUNDS):
            seed = derived_seed(self._request.seed, "distilled", number)
            images = self._questions(each, number, seed)
            asked.append(images)
            answers.append(judge.logits(images, seed).argmax(axis=-1))
            order = np.random.default_rng(seed).permutation(each * (number + 1))
            self.model.fit(
                np.concatenate(asked)[order],
                np.concatenate(answers)[order],
                batch_size=_BATCH,
                epochs=_EPOCHS if number < _ROUNDS - 1 else 2 * _EPOCHS,
                shuffle=False,
                verbose=0,
            )

    def _questions(self, count: int, number: int, seed: int) -> np.ndarray:
        """Images near the evaluated ones: shifted, blended, noisy, then attacked."""
        rng = np.random.default_rng(seed)
        pixels, clean = self._request.value_range, self._request.images
        one, other = (clean[rng.integers(len(clean), size=count)] for _ in range(2))
        shape = (count, 1, 1, 1)
        blend = rng.uniform(size=shape) * rng.integers(2, size=shape) * 0.5
        images = (1.0 - blend) * one + blend * other
        rows, cols = rng.integers(-_SHIFT, _SHIFT + 1, size=2)
        if number % 2:
            images = np.roll(images, (rows, cols), axis=_plane())
        images = np.clip(images + self._noise(rng, images.shape), *pixels)
        images = images.astype(np.float32)
        if number >= _ROUNDS // 2:
            half = count // 2
            images[:half] = self._attacked(one[:half], seed)
        return images

    def _noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Noise of up to two epsilons, of pixels and of patches, per value."""
        request = self._request
        # No less than what a pixel of a photograph can show.
        least = request.value_range.span / 128
        reach = max(2.0 * request.epsilon_per_value, least)
        count, rows, cols, channels = shape
        coarse = rng.uniform(-1.0, 1.0, (count, -(-rows // 4), -(-cols // 4), channels))
        patches = coarse.repeat(4, axis=1).repeat(4, axis=2)[:, :rows, :cols]
        strength = reach * rng.uniform(size=(2, count, 1, 1, 1))
        fine = rng.uniform(-1.0, 1.0, shape)
        return strength[0] * fine + strength[1] * patches

    def _attacked(self, images: np.ndarray, seed: int) -> np.ndarray:
        request = self._request
        attack = PGD(
            request.epsilon,
            steps=_STEPS,
            norm=request.norm,
            value_range=tuple(request.value_range),
        )
        labels = self.model.predict(images, verbose=0).argmax(axis=-1)
        batch = min(len(images), 4 * _BATCH)
        return attack.generate(
            self.model, images, labels, seed=seed, batch_size=batch, verbose=0
        )


def _net(
    shape: tuple[int, ...], classes: int, *, pixels: ValueRange, seed: int
) -> keras.Model:
    """A convolutional net for images of any size, whose weights are still random."""
    rows, cols = (shape[axis - 1] for axis in _plane())
    shrink = max(1, round(max(rows, cols) / _LONGEST))
    is_small = min(rows, cols) // shrink < 16
    # On 60 digits, a net of twice the width takes three times as long, and images
    # crafted on it fool no more.
    convolutions = (16, 1 if is_small else 2), (32, 2)
    start = iter(range(seed, seed + 4))

    def initial() -> keras.initializers.Initializer:
        return keras.initializers.GlorotUniform(seed=next(start))

    inputs = keras.Input(shape)
    span = 1.0 / pixels.span
    # No CPU convolves images with the channels first.
    last = {"data_format": "channels_last", "dtype": "float32"}
    layers = [
        keras.layers.Rescaling(span, -pixels.low * span, dtype="float32"),
        *[keras.layers.Permute((2, 3, 1))] * (_plane() != (1, 2)),
        *[keras.layers.AveragePooling2D(shrink, **last)] * (shrink > 1),
        *(
            keras.layers.Conv2D(
                filters,
                3,
                strides=stride,
                padding="same",
                activation="relu",
                kernel_initializer=initial(),
                **last,
            )
            for filters, stride in convolutions
        ),
        keras.layers.Flatten(dtype="float32"),
        keras.layers.Dense(64, "relu", kernel_initializer=initial(), dtype="float32"),
        keras.layers.Dense(classes, kernel_initializer=initial(), dtype="float32"),
    ]
    outputs = inputs
    for layer in layers:
        outputs = layer(outputs)
    return keras.Model(inputs, outputs)


def _plane() -> tuple[int, int]:
    """The axes of rows and columns in batches of images."""
    is_first = keras.config.image_data_format() == "channels_first"
    return (2, 3) if is_first else (1, 2)
