"""The nets and images that tests share."""

from typing import NamedTuple

import keras
import numpy as np


class Digits(NamedTuple):
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


def small_net(*, head: str | None = None, front=()) -> keras.Sequential:
    """A conv net on 8x8x1 images with three classes."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            *front,
            keras.layers.Conv2D(8, 3, padding="same", activation="relu"),
            keras.layers.AveragePooling2D(2),
            keras.layers.Conv2D(8, 3, padding="same", activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3, activation=head),
        ]
    )


def busy_net() -> keras.Model:
    """A functional net with everything that a call could change."""
    from keras_advdef.layers import RandomNoise

    inputs = keras.Input((8, 8, 1))
    x = RandomNoise(0.05)(inputs)
    x = keras.layers.Conv2D(4, 3, padding="same", activity_regularizer="l2")(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dropout(0.3)(x)
    branch = keras.layers.Conv2D(4, 1)(x)
    x = keras.layers.Add()([x, branch])
    x = keras.layers.Flatten()(x)
    return keras.Model(inputs, keras.layers.Dense(3)(x))


def random_net() -> keras.Model:
    """A dense net with draws of both kinds and moving statistics, quick to trace."""
    from keras_advdef.layers import RandomNoise

    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            RandomNoise(0.05),
            keras.layers.Flatten(),
            keras.layers.Dense(4),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(3),
        ]
    )


def linear_net(weights: np.ndarray, bias: np.ndarray, shape=(2, 1, 1)) -> keras.Model:
    """The map `x -> weights @ x + bias` on images of a given shape."""
    net = keras.Sequential(
        [keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(len(weights))]
    )
    net.layers[-1].set_weights([np.asarray(weights, "float32").T, np.asarray(bias)])
    return net


def digit_images() -> Digits:
    """Noisy images of three bars: vertical, horizontal, diagonal."""
    generator = np.random.default_rng(7)
    labels = generator.integers(0, 3, 600)
    images = generator.uniform(0.0, 0.4, (600, 8, 8, 1))
    for image, label in zip(images, labels, strict=True):
        place = generator.integers(1, 7)
        if label == 0:
            image[:, place] += 0.5
        elif label == 1:
            image[place] += 0.5
        else:
            image[np.arange(8), np.arange(8)] += 0.5
    images = images.clip(0, 1).astype("float32")
    return Digits(images[:400], labels[:400], images[400:], labels[400:])


def sparse_loss() -> keras.losses.Loss:
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def weights_of(model: keras.Model) -> list[np.ndarray]:
    """Copies of every variable of a model, seeds included."""
    variables = [*model.variables, *model.non_trainable_variables]
    return [np.array(variable) for variable in variables]
