"""SmoothedClassifier: the vote of a classifier over noisy copies, with certificates."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_advdef.core.cards import DefenceCard, defence
from keras_advdef.core.errors import checked_integer, checked_number, invalid
from keras_advdef.core.image_source import load_images
from keras_advdef.core.keras_private import preserve_losses
from keras_advdef.core.logits import classifier_logits
from keras_advdef.core.loops import fixed_loop
from keras_advdef.core.random_numbers import fold_in, make_key
from keras_advdef.core.random_state import draw_scope
from keras_advdef.core.traced_function import TracedFunction
from keras_advdef.layers import RandomNoise
from keras_advdef.models._classifier_model import ClassifierModel
from keras_advdef.models._planned_looks import PlannedLooks, draws_needed
from keras_advdef.models.random_self_ensemble import RandomSelfEnsemble

ABSTAINED = -1
# Numbers in the noisy copies of one pass, 16 MB: activations take several times that.
_PASS_NUMBERS = 2**22
_MOST_COPIES = 128


class Certificates(NamedTuple):
    """Certified classes and radii of images.

    Attributes:
        classes: The class of each image, `ABSTAINED` (-1) where the vote was too close.
        radii: l2 radii within which the class does not change, in the units of the
            images; zero where the classifier abstained.
    """

    classes: np.ndarray
    radii: np.ndarray


@defence(
    DefenceCard(
        summary="Takes a vote over noisy copies of an image, with certified radii.",
        category="randomization",
        paper="Cohen, Rosenfeld, Kolter: Certified Adversarial Robustness via "
        "Randomized Smoothing, ICML 2019",
        claim="49 % certified accuracy on ImageNet at l2 radius 0.5, with noise of "
        "standard deviation 0.25.",
        standing="standing",
        eot_samples=20,
        attacks=("PGD", "APGD"),
        training_cost="that of the classifier, on noisy images",
        inference_cost="one pass per sample",
    )
)
@keras.saving.register_keras_serializable(package="keras_advdef")
class SmoothedClassifier(ClassifierModel):
    """Predicts the class that a classifier gives most noisy copies of an image.

    `predict` returns the share of votes of each class. `classify` and `certify` name a
    class only where it is the most frequent one with the chosen confidence, by exact
    binomial tests, and abstain elsewhere. If the probability of a class is at least p
    with that confidence, the smoothed classifier does not change within the radius
    `stddev * Phi^-1(p)`, whatever the attack.

    Train the classifier on noise of the same size. Attacks see the mean probability
    over the draws, because votes have no gradient.

    Args:
        classifier: A `keras.Model` that maps images to logits or to probabilities.
            One unit counts as two classes.
        stddev: Number above 0. Standard deviation of the noise, in the units of the
            images.
        samples: Number of noisy copies in one prediction, at least 1.
        **kwargs: `name` and the like; see `keras.Model`.

    Call arguments:
        images: Tensor of shape `(batch, rows, cols, channels)`.
        training: If true, the probabilities of a single noisy pass are returned.

    Returns:
        Float32 shares of the votes, `(batch, classes)`.

    Raises:
        TypeError: If the classifier is not a `keras.Model`.
        ValueError: If `stddev` or `samples` is out of its range.

    Example:

    >>> classifier = keras.Sequential([
    ...     keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    >>> model = keras_advdef.models.SmoothedClassifier(
    ...     classifier, stddev=0.25, samples=100)
    >>> certificates = model.certify(np.ones((2, 4, 4, 1), "float32"))
    >>> certificates.radii.shape
    (2,)
    """

    def __init__(
        self,
        classifier: keras.Model,
        *,
        stddev: float,
        samples: int = 100,
        **kwargs: Any,
    ) -> None:
        super().__init__(classifier, **kwargs)
        owner = type(self).__name__
        self.stddev = checked_number(owner, "stddev", stddev, low=0.0, low_open=True)
        self.samples = checked_integer(owner, "samples", samples, low=1)
        self.averaged_draws = self.samples
        noisy = keras.Sequential([RandomNoise(self.stddev), classifier])
        self.ensemble = RandomSelfEnsemble(noisy, samples=self.samples)
        # Traced once for all calls, and no part of what is saved.
        self._pass = TracedFunction(self._count_pass)
        self.connect()

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Builds the classifier."""
        if not self.ensemble.built:
            self.ensemble.build(input_shape)
        super().build(input_shape)

    def logits(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the logarithm of the mean probability over the draws.

        Args:
            images: Tensor of shape `(batch, rows, cols, channels)`.
            training: Whether the classifier is called as in training, once.

        Returns:
            Float32 tensor of shape `(batch, classes)`.
        """
        return self.ensemble.logits(images, training=training)

    def call(self, images: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Returns the share of votes of each class."""
        if training:
            return tf.nn.softmax(self.logits(images, training=True))
        return self._votes(images, self.samples) / self.samples

    def _votes(self, images: tf.Tensor, count: int) -> tf.Tensor:
        """Returns in how many of `count` draws each class is the largest, float32."""
        images = tf.convert_to_tensor(images)
        noisy = self.ensemble.classifier
        # Layers cannot advance their counters inside a loop.
        key = self._key()

        def vote(index: tf.Tensor) -> tf.Tensor:
            with draw_scope(fold_in(key, index)):
                logits = classifier_logits(noisy, images)
            return _votes_of(logits)

        def add(index: tf.Tensor, state: tuple[tf.Tensor]) -> tuple[tf.Tensor]:
            return (state[0] + vote(index + 1),)

        # Losses that layers add inside the loop cannot leave it.
        with preserve_losses(noisy):
            return fixed_loop(add, (vote(0),), count - 1, unroll=False)[0]

    def classify(
        self,
        images: Any,
        *,
        failure: float = 1e-3,
        batch_size: int | None = None,
        seed: int | None = None,
    ) -> np.ndarray:
        """Returns the class of each image, or `ABSTAINED` (-1).

        An exact binomial test compares the two classes with the most votes, so that a
        named class is the smoothed classifier's except for `failure` of the images.

        Args:
            images: Array `(count, rows, cols, channels)`, or a `tf.data.Dataset` or
                `keras.utils.PyDataset` of batches that has an end.
            failure: Number above 0 and at most 1.
            batch_size: Noisy copies of one image in a compiled pass; see `certify`.
            seed: Integer in `[0, 2**31)` that fixes the draws; `None` for fresh ones.

        Returns:
            Integer array `(count,)`.

        Raises:
            ValueError: If `failure` is out of its range.
        """
        from scipy.stats import binomtest

        failure = _checked_failure(failure)
        images = self._loaded("SmoothedClassifier.classify", images)
        copies, key = _copies(images, batch_size), self._key(seed)
        counts = np.stack(
            [
                self._counted(image, self.samples, copies, fold_in(key, index))
                for index, image in enumerate(images)
            ]
        )
        # Draws for which the classifier returns NaN compete as one more class.
        lost = self.samples - counts.sum(axis=1)
        ranked = np.column_stack([counts, lost])
        order = np.argsort(-ranked, axis=1, kind="stable")
        first, second = np.take_along_axis(ranked, order[:, :2], axis=1).T
        sure = [
            binomtest(int(most), int(most + next_most)).pvalue <= failure
            for most, next_most in zip(first, second, strict=True)
        ]
        is_class = order[:, 0] < counts.shape[1]
        return np.where(sure & is_class, order[:, 0], ABSTAINED)

    def certify(
        self,
        images: Any,
        *,
        radii: Sequence[float] | None = None,
        selection: int = 100,
        samples: int = 1000,
        failure: float = 1e-3,
        batch_size: int | None = None,
        seed: int | None = None,
    ) -> Certificates:
        """Returns classes and radii that hold for all but `failure` of the images.

        One set of draws chooses the class, another gives exact (Clopper-Pearson) lower
        bounds of its probability, at 128, 256, 512, ... and `samples` draws. An image
        is done as soon as no wanted radius can be won any more.

        With `radii`, the bounds of all looks share `failure`, so that they hold at once
        by the union bound, as in the adaptive sampling of Horváth et al. (ICLR 2022).
        Most images are done after a few hundred draws. A radius that is returned holds,
        but beyond the largest wanted one that it reaches it could be larger with more
        draws. Without `radii`, every image takes all draws for the largest radius
        there is, except those that would abstain.

        The draws of an image depend on the seed and on its place among the images, not
        on the others. The layers draw for a pass as a whole, so another `batch_size`
        gives other draws.

        Args:
            images: Array `(count, rows, cols, channels)`, or a data set as in
                `classify`.
            radii: l2 radii at which an answer is wanted, each at least 0 and in the
                units of the images; `None` for the largest radius of each image.
            selection: Draws that choose the class.
            samples: Most draws that bound its probability; the largest radius grows
                with them.
            failure: Number above 0 and at most 1.
            batch_size: Noisy copies of one image in a compiled pass; `None` for what
                the size of the images allows, at most 128.
            seed: Integer in `[0, 2**31)` that fixes the draws; `None` for fresh ones.

        Returns:
            A `Certificates`.

        Raises:
            ValueError: If an argument is out of its range, or `samples` are too few for
                the smallest radius to be certified at all.
        """
        from scipy.stats import norm

        owner = "SmoothedClassifier.certify"
        selection = checked_integer(owner, "selection", selection, low=1)
        looks = self._looks(owner, radii, samples, _checked_failure(failure))
        images = self._loaded(owner, images)
        copies, key = _copies(images, batch_size), self._key(seed)
        classes, chances = [], []
        for index, image in enumerate(images):
            draws = _Draws(self, image, copies, fold_in(key, index))
            classes.append(int(draws.counted(0, selection).argmax()))
            chances.append(looks.bound(functools.partial(draws.hits, classes[-1])))
        is_sure = np.array(chances) > 0.5
        found = self.stddev * norm.ppf(np.where(is_sure, chances, 0.5))
        return Certificates(np.where(is_sure, classes, ABSTAINED), found)

    def _looks(
        self, owner: str, radii: Sequence[float] | None, samples: int, failure: float
    ) -> PlannedLooks:
        """Returns the looks for some radii, or raises if none can be certified."""
        from scipy.stats import norm

        samples = checked_integer(owner, "samples", samples, low=1)
        given = [0.0] if radii is None else list(radii)
        if not given:
            raise invalid(owner, "radii", "not empty, or None", radii)
        given = [checked_number(owner, "radii", each, low=0.0) for each in given]
        wanted = [float(norm.cdf(each / self.stddev)) for each in given]
        looks = PlannedLooks.of(
            samples, failure, wanted, stops_when_reached=radii is not None
        )
        smallest = looks.wanted[0]
        if smallest == 1.0 or looks.largest <= smallest:
            raise invalid(
                owner,
                "samples",
                "enough for a certificate",
                samples,
                advice=_needed(smallest, min(given), failure, radii is not None),
            )
        # Radii that no image can reach keep none from being done.
        reachable = tuple(each for each in looks.wanted if each < looks.largest)
        return dataclasses.replace(looks, wanted=reachable)

    def _loaded(self, owner: str, images: Any) -> np.ndarray:
        loaded = np.asarray(load_images(owner, images).images)
        if not len(loaded):
            raise invalid(type(self).__name__, "images", "not empty", loaded)
        return loaded

    def _key(self, seed: int | None = None) -> tf.Tensor:
        """Returns the key of a seed, or the next one of the noise."""
        noise = self.ensemble.classifier.layers[0]
        return noise.next_key() if seed is None else make_key(seed)

    def _counted(
        self, image: np.ndarray, draws: int, copies: int, key: tf.Tensor
    ) -> np.ndarray:
        """Returns the votes of `draws` draws of one image as integers, `(classes,)`."""
        rows = tf.repeat(tf.constant(image[np.newaxis]), copies, axis=0)
        parts = [
            self._pass(
                rows, fold_in(key, start), tf.constant(min(copies, draws - start))
            ).numpy()
            for start in range(0, draws, copies)
        ]
        return np.asarray(parts, np.int64).sum(axis=0)

    def _count_pass(
        self, rows: tf.Tensor, key: tf.Tensor, limit: tf.Tensor
    ) -> tf.Tensor:
        """Returns the votes of the first `limit` of some noisy copies, `(classes,)`."""
        with draw_scope(key), preserve_losses(self.ensemble.classifier):
            votes = _votes_of(classifier_logits(self.ensemble.classifier, rows))
        return tf.reduce_sum(votes[:limit], axis=0)

    def get_config(self) -> dict[str, Any]:
        config = {"stddev": self.stddev, "samples": self.samples}
        return {**super().get_config(), **config}


def _votes_of(logits: tf.Tensor) -> tf.Tensor:
    """Returns one-hot votes, float32; NaN is no vote, and cannot help to certify."""
    votes = tf.one_hot(tf.argmax(logits, axis=-1), logits.shape[-1])
    is_nan = tf.reduce_any(tf.math.is_nan(logits), axis=-1, keepdims=True)
    return tf.where(is_nan, 0.0, votes)


def _copies(images: np.ndarray, batch_size: int | None) -> int:
    """Returns how many noisy copies of one image a pass takes."""
    if batch_size is not None:
        return checked_integer("SmoothedClassifier", "batch_size", batch_size, low=1)
    return max(1, min(_MOST_COPIES, _PASS_NUMBERS // max(1, images[0].size)))


def _needed(wanted: float, radius: float, failure: float, is_shared: bool) -> str:
    """Returns a sentence that says how many draws certify a probability."""
    if wanted == 1.0:
        return f"No number of draws certifies radius {radius:g}; use a larger stddev."
    count = draws_needed(wanted, failure, stops_when_reached=is_shared)
    return f"Radius {radius:g} at failure {failure:g} takes at least {count}."


class _Draws(NamedTuple):
    """The draws of one image, of which each look has its own."""

    model: SmoothedClassifier
    image: np.ndarray
    copies: int
    key: tf.Tensor

    def counted(self, look: int, count: int) -> np.ndarray:
        """Returns the votes of new draws for each class."""
        fresh = fold_in(self.key, look)
        return self.model._counted(self.image, count, self.copies, fresh)

    def hits(self, chosen: int, look: int, count: int) -> int:
        """Returns how many new draws vote for a class; look 0 chose it."""
        return int(self.counted(1 + look, count)[chosen])


def _checked_failure(failure: float) -> float:
    return checked_number(
        "SmoothedClassifier", "failure", failure, low=0.0, high=1.0, low_open=True
    )
