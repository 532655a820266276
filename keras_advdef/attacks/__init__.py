"""Attacks that run in the model's graph."""

from keras_advdef.attacks.apgd import APGD
from keras_advdef.attacks.attack import Attack
from keras_advdef.attacks.attack_loss import AttackLoss
from keras_advdef.attacks.auto_attack import AutoAttack
from keras_advdef.attacks.boundary_attack import BoundaryAttack
from keras_advdef.attacks.carlini_wagner import CarliniWagner
from keras_advdef.attacks.classification_loss import ClassificationLoss
from keras_advdef.attacks.deep_fool import DeepFool
from keras_advdef.attacks.fab import FAB
from keras_advdef.attacks.fgsm import FGSM
from keras_advdef.attacks.gradient_attack import GradientAttack
from keras_advdef.attacks.hop_skip_jump import HopSkipJump
from keras_advdef.attacks.jsma import JSMA
from keras_advdef.attacks.kl_to_clean import KLToClean
from keras_advdef.attacks.logits_loss import LogitsLoss
from keras_advdef.attacks.minimal_attack import Found, MinimalAttack
from keras_advdef.attacks.pgd import PGD
from keras_advdef.attacks.spsa import SPSA
from keras_advdef.attacks.square import Square
from keras_advdef.attacks.stepped_attack import SteppedAttack
from keras_advdef.attacks.targeted_dlr import TargetedDLR
from keras_advdef.attacks.transfer import Transfer

__all__ = [
    "APGD",
    "FAB",
    "FGSM",
    "JSMA",
    "PGD",
    "SPSA",
    "Attack",
    "AttackLoss",
    "AutoAttack",
    "BoundaryAttack",
    "CarliniWagner",
    "ClassificationLoss",
    "DeepFool",
    "Found",
    "GradientAttack",
    "HopSkipJump",
    "KLToClean",
    "LogitsLoss",
    "MinimalAttack",
    "Square",
    "SteppedAttack",
    "TargetedDLR",
    "Transfer",
]
