"""Ground: the plain nets, images and training that every trick is built from."""

import dataclasses
import functools

import keras
import numpy as np

_SPARSE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def plain_net(shape, classes, *, activation="relu", name=None) -> keras.Sequential:
    """A small undefended conv net that returns logits.

    Images of more than 16 rows get larger kernels and max pooling: with a net that few
    random changes fool, what a mask hides is not found by luck.

    Args:
        shape: Shape of one image.
        classes: Number of logits.
        activation: What follows each convolution: a name or a layer's factory.
        name: Name of the net.
    """
    layers = keras.layers
    is_large = shape[0] > 16

    def active():
        named = isinstance(activation, str)
        return layers.Activation(activation) if named else activation()

    def block(filters, strides):
        if is_large:
            conv = layers.Conv2D(2 * filters, 5, padding="same")
            return [conv, active(), layers.MaxPooling2D(2)]
        return [layers.Conv2D(filters, 3, padding="same", strides=strides), active()]

    hidden = [layers.Dense(64 if is_large else 32), active()]
    return keras.Sequential(
        [
            keras.Input(shape),
            *block(8, 1),
            *block(16, 2),
            layers.Flatten(),
            *hidden,
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
        few: Training images of nets that only one trick uses.
        kept: Attacked images by attack and net, which many tricks share.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: int
    epsilon: float
    epochs: int
    few: int | None = None
    kept: dict = dataclasses.field(default_factory=dict, repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image."""
        return self.images.shape[1:]

    def plain(self, **changes) -> keras.Sequential:
        """Returns a new, untrained plain net."""
        return plain_net(self.shape, self.classes, **changes)

    def fit(self, build, *, seed=1, loss=_SPARSE, labels=None, few=True):
        """Returns the net that `build` makes, trained reproducibly."""
        keras.utils.set_random_seed(seed)
        net = build()
        if self.epochs:
            labels = self.labels if labels is None else labels
            rows = slice(self.few if few else None)
            given = self.images[rows], labels[rows]
            net.compile(keras.optimizers.Adam(3e-3), loss)
            net.fit(*given, batch_size=64, epochs=self.epochs, verbose=0)
        return net

    @functools.cached_property
    def net(self) -> keras.Sequential:
        """The plain net that most tricks hide; every attack breaks it."""
        return self.fit(lambda: self.plain(name="plain"), few=False)

    @functools.cached_property
    def others(self) -> list[keras.Sequential]:
        """Plain nets from other seeds."""
        named = {2: "second", 3: "third"}
        return [
            self.fit(functools.partial(self.plain, name=name), seed=seed, few=False)
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
