import dataclasses

import numpy as np
import pytest

from keras_advdef.core.value_range import ValueRange
from keras_advdef.evaluation._measure.gallery import Gallery
from keras_advdef.evaluation._measure.smallest_perturbations import (
    SmallestPerturbations,
)
from keras_advdef.evaluation._run.image_records import Example

COUNT = 12
IMAGES = np.linspace(0, 255, COUNT * 4).reshape(COUNT, 2, 2, 1)
LABELS = np.arange(COUNT) % 3


def nearest_of(rows, norms):
    rows = np.array(rows)
    return SmallestPerturbations(
        rows=rows,
        images=IMAGES[rows].astype("float32") / 2,
        norms=np.array(norms, "float32"),
        predicted=(LABELS[rows] + 1) % 3,
        attack="FAB-20",
    )


class ScriptedJudge:
    """Gives the logits of one draw after another, or none at all."""

    value_range = ValueRange(0.0, 255.0)

    def __init__(self, predictions=()):
        self.predictions = [*predictions]

    def logits(self, images, seed):
        del seed
        predicted = np.array(self.predictions.pop(0))
        assert len(predicted) == len(images)
        return np.eye(3)[predicted]

    def fooled(self, logits, labels):
        return logits.argmax(axis=1) != labels


def gallery_of(rows, norms, draws=()):
    smallest, judge = nearest_of(rows, norms), ScriptedJudge(draws)
    many = max(len(draws), 1)
    return Gallery.of(smallest, IMAGES, LABELS, judge=judge, draws=many, seed=0)


@pytest.fixture
def gallery():
    return gallery_of([5, 0, 7], [30.0, 10.0, 20.0])


class TestGallery:
    @pytest.mark.parametrize(
        ("norms", "chosen"),
        [
            ([5.0], [0]),
            ([5.0, 4.0, 6.0], [1, 0, 2]),
            (list(range(8, 0, -1)), [7, 6, 5, 4, 3, 2, 1, 0]),
            (list(range(10)), [0, 1, 2, 3, 6, 7, 8, 9]),
            ([3.0, np.inf, 1.0, np.inf, 2.0], [2, 4, 0]),
            ([2.0, 2.0, 2.0], [0, 1, 2]),
        ],
    )
    def test_ends_of_the_order(self, norms, chosen):
        rows = np.arange(1, len(norms) + 1)
        gallery = gallery_of(rows, norms)
        assert gallery.norms.tolist() == [norms[index] for index in chosen]
        expected = rows[chosen]
        np.testing.assert_allclose(gallery.clean, IMAGES[expected] / 255, rtol=1e-6)
        np.testing.assert_allclose(gallery.adversarial, gallery.clean / 2, rtol=1e-6)
        assert gallery.labels.tolist() == LABELS[expected].tolist()
        assert gallery.predicted.tolist() == ((LABELS[expected] + 1) % 3).tolist()

    def test_nothing_found(self):
        judge = ScriptedJudge()
        for draws in (1, 2):
            none = Gallery.of(None, IMAGES, LABELS, judge=judge, draws=draws, seed=0)
            assert none is None
        assert gallery_of([0, 1], [np.inf, np.inf]) is None

    def test_most_draws_must_be_fooled(self):
        """The labels of images 0, 1, 2 are 0, 1, 2."""
        draws = [[1, 1, 0], [2, 0, 0], [2, 2, 1], [0, 1, 1]]
        gallery = gallery_of([0, 1, 2], [3.0, 2.0, 1.0], draws)
        # The second image fools two draws of four.
        assert gallery.labels.tolist() == [2, 0]
        assert gallery.norms.tolist() == [1.0, 3.0]
        # Of two classes that are equally frequent, the first.
        assert gallery.predicted.tolist() == [0, 2]
        assert gallery_of([0, 1], [1.0, 2.0], [[0, 1]] * 3) is None

    def test_save_and_load(self, gallery, tmp_path):
        gallery.save(tmp_path / "gallery.npz")
        loaded = Gallery.load(tmp_path / "gallery.npz", ValueError)
        for name, array in vars(gallery).items():
            np.testing.assert_array_equal(getattr(loaded, name), array)
        assert Gallery.load(tmp_path / "none.npz", ValueError) is None

    @pytest.mark.parametrize(
        "changes",
        [
            {"clean": np.zeros((3, 2, 2))},
            {"clean": np.zeros((3, 2, 0, 1)), "adversarial": np.zeros((3, 2, 0, 1))},
            {"adversarial": np.zeros((3, 2, 2, 2))},
            {"norms": np.array([1.0, np.nan, 2.0])},
            {"labels": np.zeros((3, 1))},
            {"predicted": np.array(["a", "b", "c"])},
        ],
        ids=str,
    )
    def test_other_arrays_are_refused(self, gallery, tmp_path, changes):
        dataclasses.replace(gallery, **changes).save(tmp_path / "gallery.npz")
        with pytest.raises(ValueError, match="not images with their classes"):
            Gallery.load(tmp_path / "gallery.npz", ValueError)

    def test_other_files_are_refused(self, tmp_path):
        (tmp_path / "gallery.npz").write_bytes(b"no archive")
        with pytest.raises(ValueError, match="It is not a complete archive"):
            Gallery.load(tmp_path / "gallery.npz", ValueError)
        np.savez(tmp_path / "gallery.npz", clean=np.zeros(3))
        with pytest.raises(ValueError, match="It lacks adversarial"):
            Gallery.load(tmp_path / "gallery.npz", ValueError)


class TestPanels:
    def test_change_fills_the_grey_scale(self, gallery):
        clean, change, adversarial = gallery.panels(2)
        image = gallery.clean[2, ..., 0]
        np.testing.assert_allclose(clean, image)
        np.testing.assert_allclose(adversarial, image / 2)
        # Every pixel gets darker by half its value: the largest change is black.
        np.testing.assert_allclose(change, 0.5 - 0.5 * image / image.max(), atol=1e-6)
        assert gallery.magnification(2) == pytest.approx(1 / image.max())

    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    def test_channels(self, channels):
        clean = np.full((1, 5, 4, channels), 0.25, "float32")
        classes = {"labels": np.array([0]), "predicted": np.array([1])}
        gallery = Gallery(
            clean=clean, adversarial=clean, norms=np.array([0.0]), **classes
        )
        shown, change, _ = gallery.panels(0)
        colours = (channels,) if channels in (3, 4) else ()
        assert shown.shape == (5, 4, *colours)
        # A perturbation of zero is grey, not a division by zero.
        assert (change == 0.5).all()


class TestOfExample:
    def test_shows_the_image_at_epsilon(self):
        example = Example(
            row=2, image=IMAGES[2].astype("float32") + 8, predicted=1, is_broken=True
        )
        found = Gallery.of_example(
            example, IMAGES, LABELS, norm="linf", value_range=ValueRange(0.0, 255.0)
        )
        np.testing.assert_allclose(found.clean[0], IMAGES[2] / 255, rtol=1e-6)
        np.testing.assert_allclose(found.adversarial - found.clean, 8 / 255, rtol=1e-4)
        assert found.norms.tolist() == pytest.approx([8.0])
        assert (found.labels.tolist(), found.predicted.tolist()) == ([2], [1])

    def test_nothing_attacked(self):
        pixels = ValueRange()
        nothing = Gallery.of_example(
            None, IMAGES, LABELS, norm="l2", value_range=pixels
        )
        assert nothing is None
