import keras
import numpy as np
import pytest

from keras_advdef.attacks import PGD
from keras_advdef.evaluation._plan.without_class import WithoutClass
from keras_advdef.evaluation._run.rejection import Rejection, find_rejection

LABELS = np.arange(60) % 3
# Class 3 of 4 is nobody's.
LOGITS = np.eye(4)[LABELS]


def found(predicted, *, labels=LABELS, logits=LOGITS, again=None, is_declared=False):
    predicted = np.asarray(predicted)
    return find_rejection(
        predicted,
        labels[: len(predicted)],
        clean_logits=logits,
        all_labels=labels,
        is_declared=is_declared,
        heedless=lambda: predicted if again is None else np.asarray(again),
    )


def moved_to(label, shares):
    """Predictions that move a share of each class to one label, others to the next."""
    predicted = (LABELS + 1) % 3
    for each, share in enumerate(shares):
        rows = np.flatnonzero(each == LABELS)
        predicted[rows[: round(share * len(rows))]] = label
    return predicted


def test_class_that_takes_most_moved_images():
    # Of twelve images three stay, six go to class 3 and three elsewhere.
    predicted = [0, 1, 2, *[3] * 6, *(LABELS[9:12] + 1) % 3]
    assert found(predicted) == Rejection(3, 6 / 9)


@pytest.mark.parametrize(
    ("shares", "label"),
    [((0.6, 0.6, 0.6), 3), ((0.5, 0.5, 0.5), None), ((1.0, 0.4, 1.0), None)],
)
def test_most_of_them_from_most_classes(shares, label):
    predicted = moved_to(3, shares)
    assert found(predicted).label == label
    # Under both attacks.
    everywhere = np.full(60, 3)
    assert found(predicted, again=everywhere).label == label
    assert found(everywhere, again=predicted).label == label


def test_images_that_stay_tell_nothing():
    assert found(LABELS) == Rejection(None, 0.0)
    assert found([3] * 60, again=LABELS) == Rejection(None, 1.0)


def test_class_of_an_image_is_no_detector():
    predicted = [3] * 60
    labels = np.where(np.arange(60) == 59, 3, LABELS)
    assert found(predicted, labels=labels).label is None
    logits = np.eye(4)[labels]
    assert found(predicted, logits=logits).label is None


def test_few_images_may_miss_a_class():
    labels = np.arange(27) % 3
    assert found([3] * 27, labels=labels, logits=np.eye(4)[labels]).label is None
    labels = np.arange(28) % 3
    assert found([3] * 28, labels=labels, logits=np.eye(4)[labels]).label == 3


@pytest.mark.parametrize("present", [[4], [4, 7], list(range(8))])
def test_images_of_few_classes_cannot_tell(present):
    labels = np.resize(present, 200)
    assert found([9] * 200, labels=labels, logits=np.eye(10)[labels]).label is None
    labels = np.resize(range(9), 200)
    assert found([9] * 200, labels=labels, logits=np.eye(10)[labels]).label == 9


@pytest.mark.parametrize("classes", [2, 3])
def test_two_classes_have_none(classes):
    # A third class may lie between two others.
    labels = np.arange(60) % (classes - 1)
    logits = np.eye(classes)[labels]
    found_one = found([classes - 1] * 60, labels=labels, logits=logits)
    assert found_one == Rejection(None, 1.0)


def test_a_detector_says_so_itself():
    def never():
        raise AssertionError

    assert find_rejection(
        LABELS,
        LABELS,
        clean_logits=LOGITS,
        all_labels=LABELS,
        is_declared=True,
        heedless=never,
    ) == Rejection(3, 0.0)


@pytest.fixture(scope="module")
def handwriting():
    """Real digits, and a linear net that knows all ten classes."""
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    pixels, labels = load_digits(return_X_y=True)
    pixels = (pixels / 16.0).astype("float32")
    fit = LogisticRegression(max_iter=200).fit(pixels[:1000], labels[:1000])
    return pixels[1000:1400].reshape(-1, 8, 8, 1), labels[1000:1400], fit


class _Linear:
    """The net with one of its classes in the last place, and nearest to all images.

    A constant is added to its logit, and the images that it catches are left out.
    """

    def __init__(self, fit):
        self._fit = fit
        layers = [keras.layers.Flatten(), keras.layers.Dense(10)]
        self.net = keras.Sequential([keras.Input((8, 8, 1)), *layers])
        losses = ("cross_entropy", WithoutClass())
        self._attacks = [PGD(0.4, steps=20, loss=loss) for loss in losses]

    def rejection(self, images, labels, last):
        order = [*(each for each in range(10) if each != last), last]
        weights, biases = self._fit.coef_[order].T, self._fit.intercept_[order]
        logits = images.reshape(len(images), -1) @ weights + biases
        ahead = logits[:, :-1].max(axis=1) - logits[:, -1]
        bonus = np.quantile(ahead, 0.3)
        biases[-1] += bonus
        self.net.layers[-1].set_weights([weights, biases])
        images, labels = images[ahead > bonus], labels[ahead > bonus]
        labels = np.argsort(order)[labels]
        moved = [
            np.argmax(
                self.net(attack.generate(self.net, images, labels, seed=0, verbose=0)),
                -1,
            )
            for attack in self._attacks
        ]
        return find_rejection(
            moved[0],
            labels,
            clean_logits=np.eye(10)[labels],
            all_labels=labels,
            is_declared=False,
            heedless=lambda: moved[1],
        )


def test_honest_nets_whose_images_lack_a_class_are_no_detectors(handwriting):
    images, labels, fit = handwriting
    linear, shares = _Linear(fit), []
    for last in range(10):
        here = labels != last
        rejection = linear.rejection(images[here], labels[here], last)
        assert rejection.label is None
        shares.append(rejection.share)
    # The overall share alone would accuse many.
    assert np.median(shares) > 0.5


def test_honest_nets_with_images_of_one_class_are_no_detectors(handwriting):
    images, labels, fit = handwriting
    linear = _Linear(fit)
    shares = []
    for own, last in ((4, 9), (7, 9), (1, 8), (3, 2)):
        # More than the few that say too little anyway.
        rows = np.resize(np.flatnonzero(labels == own), 120)
        rejection = linear.rejection(images[rows], labels[rows], last)
        assert rejection.label is None
        shares.append(rejection.share)
    assert max(shares) > 0.9
