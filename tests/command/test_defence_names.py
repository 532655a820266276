import importlib

import pytest

from keras_advdef.core.cards import all_cards
from keras_advdef_command import defence_names
from keras_advdef_command.defence_names import card_name
from tests.golden.refresh import public_names

# Public names in the folders of defences that have no card: bases and tools.
NO_DEFENCE = {
    "CrossEntropy",
    "DifferenceOfLogitsRatio",
    "EpochShuffle",
    "InputTransform",
    "Margin",
    "MemberDLR",
    "Objective",
    "Penalty",
    "RobustAccuracy",
    "TrainingModel",
    "export_model",
    "load_for_serving",
    "rewrite",
}
FOLDERS = ("callbacks", "constraints", "layers", "losses", "models")
FOLDERS += ("objectives", "surgery", "training")


def _public():
    for folder in FOLDERS:
        yield from importlib.import_module(f"keras_advdef.{folder}").__all__


class TestCardName:
    def test_every_public_name_leads_to_a_card(self):
        for name in {*_public()} - NO_DEFENCE:
            assert card_name(name) in all_cards(), name

    @pytest.mark.parametrize(
        "name", [*sorted(NO_DEFENCE), "PGD", "evaluate_robustness"]
    )
    def test_others_are_known(self, name):
        with pytest.raises(
            ValueError, match=f"NAME='{name}'.*not a defence with a card"
        ):
            card_name(name)

    def test_parts_are_public_and_lead_to_cards(self):
        names = {name.rpartition(".")[2] for name, _ in public_names()}
        assert defence_names._PARTS.keys() <= names
        assert {*defence_names._PARTS.values()} <= all_cards().keys()

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("AdversarialTrainingModel", "AdversarialCrossEntropy"),
            ("adversarial training model", "AdversarialCrossEntropy"),
            ("RANDOMNOISE", "RandomNoise"),
            ("random_noise", "RandomNoise"),
            ("defense-gan", "DefenseGAN"),
            ("insert_pruning", "StochasticActivationPruning"),
            ("to_variational", "VariationalConv2D"),
            ("WassersteinGAN", "DefenseGAN"),
        ],
    )
    def test_as_people_write(self, name, expected):
        assert card_name(name) == expected

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("RandomNois", "RandomNoise"),
            ("JPEG", "JPEGCompression"),
            ("DefenceGAN", "DefenseGAN"),
            ("FeatureSqueezing", "FeatureSqueezingDetector"),
            ("AdversarialTraining", "AdversarialTrainingModel"),
            ("distillation", "DistillationTrainer"),
        ],
    )
    def test_near_misses(self, name, expected):
        with pytest.raises(ValueError, match=f"Did you mean [^?]*{expected}[^?]*\\?"):
            card_name(name)

    @pytest.mark.parametrize("name", ["Magic", "", "%"])
    def test_no_guess(self, name):
        text = rf"NAME='{name}'\. `keras-advdef defences` lists all\."
        with pytest.raises(ValueError, match=text):
            card_name(name)
