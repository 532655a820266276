import numpy as np
import pytest

from keras_advdef.evaluation._report.corruption_examples import (
    load_examples,
    save_examples,
)

PATH = "corruptions.npz"


def refuse(sentence):
    return ValueError(sentence)


@pytest.fixture
def examples():
    images = np.random.default_rng(0).random((2, 6, 5, 3)).astype("float32")
    return {"none": images[0], "fog": images[1]}


class TestExamples:
    def test_save_and_load(self, examples, tmp_path):
        save_examples(tmp_path / PATH, examples)
        found = load_examples(tmp_path / PATH, refuse, names=["none", "fog"])
        assert [*found] == ["none", "fog"]
        for name, image in examples.items():
            np.testing.assert_allclose(found[name], image, atol=0.5 / 255 + 1e-6)

    def test_large_images_are_reduced(self, tmp_path):
        large = np.kron(np.eye(150), np.ones((2, 2)))[..., None]
        save_examples(tmp_path / PATH, {"none": large})
        found = load_examples(tmp_path / PATH, refuse, names=["none"])["none"]
        np.testing.assert_array_equal(found[..., 0], np.eye(150))

    @pytest.mark.parametrize(
        ("arrays", "sentence"),
        [
            ({"none": np.zeros((2, 2, 1), "uint8")}, "It lacks fog"),
            (
                {
                    "none": np.zeros((2, 2, 1), "uint8"),
                    "fog": np.zeros((3, 2, 1), "u1"),
                },
                "not images of one shape",
            ),
            (
                {"none": np.zeros((2, 2, 1)), "fog": np.zeros((2, 2, 1))},
                "not images of one shape",
            ),
            (
                {"none": np.zeros((0, 2, 1), "u1"), "fog": np.zeros((0, 2, 1), "u1")},
                "not",
            ),
            (
                {"none": np.zeros((2, 2), "u1"), "fog": np.zeros((2, 2), "u1")},
                "not imag",
            ),
        ],
    )
    def test_others_are_refused(self, arrays, sentence, tmp_path):
        np.savez(tmp_path / PATH, **arrays)
        with pytest.raises(ValueError, match=sentence):
            load_examples(tmp_path / PATH, refuse, names=["none", "fog"])
