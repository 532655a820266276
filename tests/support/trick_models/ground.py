"""Ground: the plain nets, images and training that every trick is built from."""

import dataclasses
import functools

import keras
import numpy as np

_SPARSE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def plain_net(shape, classes, *, activation="relu", name=None) -> keras.Sequential:
    """A small undefended conv net that returns logits.

    Args:
        shape: Shape of one image.
        classes: Number of logits.
        activation: What follows each convolution: a name or a layer's factory.
        name: Name of the net.
    """
    layers = keras.layers

    def active():
        named = isinstance(activation, str)
        return layers.Activation(activation) if named else activation()

    return keras.Sequential(
        [
            keras.Input(shape),
            layers.Conv2D(8, 3, padding="same", strides=1 + (shape[0] > 16)),
            active(),
            layers.Conv2D(16, 3, padding="same", strides=2),
            active(),
            layers.Flatten(),
            layers.Dense(32),
            active(),
            layers.Dense(classes),
        ],
        name=name,
    )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Ground:
    """What tricks and honest nets are made from.

    Attributes:
        images: Training images on the 8-bit grid, `(count, rows, cols, channels)`.
        labels: Their classes.
        classes: Number of classes.
        epsilon: Radius of the linf ball of the attacks.
        epochs: Epochs of a training; 0 leaves nets untrained, for quick tests.
        kept: Attacked images by attack and net, which many tricks share.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: int
    epsilon: float
    epochs: int
    kept: dict = dataclasses.field(default_factory=dict, repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image."""
        return self.images.shape[1:]

    def plain(self, **changes) -> keras.Sequential:
        """Returns a new, untrained plain net."""
        return plain_net(self.shape, self.classes, **changes)

    def fit(self, build, *, seed=1, loss=_SPARSE, labels=None, rate=3e-3):
        """Returns the net that `build` makes, trained reproducibly."""
        keras.utils.set_random_seed(seed)
        net = build()
        if self.epochs:
            labels = self.labels if labels is None else labels
            net.compile(keras.optimizers.Adam(rate), loss)
            net.fit(self.images, labels, batch_size=64, epochs=self.epochs, verbose=0)
        return net

    @functools.cached_property
    def net(self) -> keras.Sequential:
        """The plain net that most tricks hide; every attack breaks it."""
        return self.fit(lambda: self.plain(name="plain"))

    @functools.cached_property
    def others(self) -> list[keras.Sequential]:
        """Plain nets from other seeds."""
        named = {2: "second", 3: "third"}
        return [
            self.fit(functools.partial(self.plain, name=name), seed=seed)
            for seed, name in named.items()
        ]

    @functools.cached_property
    def untrained(self) -> keras.Sequential:
        """A net with random weights, whose gradients are smooth and useless."""
        keras.utils.set_random_seed(4)
        return self.plain(activation="softplus")

    @functools.cached_property
    def misled(self) -> keras.Sequential:
        """A net trained on wrong classes, whose gradients are smooth and false."""
        wrong = (self.labels + 3) % self.classes
        return self.fit(self.plain, seed=5, labels=wrong)

    @property
    def shared(self) -> list[keras.Sequential]:
        """The nets that many tricks hide."""
        return [self.net, *self.others]

    def quantile(self, function, share) -> float:
        """Returns a quantile of a score of the first training images."""
        return float(np.quantile(function(self.images[:300]), share))
