import numpy as np
import pytest

from keras_advdef.cli.data.dataset import Dataset
from keras_advdef.cli.demo._train_classifier import train_classifier
from keras_advdef.training import AdversarialTrainingModel


class TestTrainClassifier:
    @pytest.mark.parametrize("epsilon", [None, 0.05])
    def test_learns_two_classes(self, arrays, epsilon):
        dataset = Dataset.from_arrays("toy", **arrays)
        notes = []
        model = train_classifier(dataset, 30, epsilon=epsilon, advance=notes.append)
        assert len(notes) == 30
        assert all(note.startswith("loss ") for note in notes)
        logits = model.predict(dataset.x_test, verbose=0)
        assert np.mean(logits.argmax(axis=-1) == dataset.y_test) == 1.0

    def test_epsilon_ends_at_its_full_size(self, arrays):
        dataset = Dataset.from_arrays("toy", **arrays)
        model = train_classifier(dataset, 1, epsilon=0.05, advance=lambda note: None)
        assert isinstance(model, AdversarialTrainingModel)
        assert float(model.epsilon) == pytest.approx(0.05)
