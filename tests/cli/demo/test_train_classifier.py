import numpy as np
import pytest

from keras_advdef.cli.demo import _train_classifier as train_module
from keras_advdef.cli.demo._train_classifier import train_classifier
from keras_advdef.core.data.dataset import Dataset
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
        if epsilon is not None:
            assert isinstance(model, AdversarialTrainingModel)
            assert float(model.epsilon) == pytest.approx(epsilon)

    @pytest.mark.parametrize(
        ("epochs", "shares"),
        [(1, [1.0]), (2, [1.0, 1.0]), (9, [1 / 3, 2 / 3, *7 * [1.0]])],
    )
    def test_epsilon_grows_to_its_full_size(self, arrays, monkeypatch, epochs, shares):
        given = {}
        monkeypatch.setattr(
            train_module, "_fit", lambda *model, **named: given.update(named)
        )
        dataset = Dataset.from_arrays("toy", **arrays)
        model = train_classifier(dataset, epochs, epsilon=0.05, advance=len)
        [warm_up] = given["callbacks"]
        warm_up.set_model(model)
        sizes = []
        for epoch in range(epochs):
            warm_up.on_epoch_begin(epoch)
            sizes.append(float(model.epsilon))
        np.testing.assert_allclose(sizes, 0.05 * np.array(shares), rtol=1e-6)
