"""Attacks that run in the model's graph."""

from keras_advdef.attacks.attack import Attack
from keras_advdef.attacks.attack_loss import AttackLoss
from keras_advdef.attacks.classification_loss import ClassificationLoss
from keras_advdef.attacks.fgsm import FGSM
from keras_advdef.attacks.gradient_attack import GradientAttack
from keras_advdef.attacks.kl_to_clean import KLToClean
from keras_advdef.attacks.logits_loss import LogitsLoss
from keras_advdef.attacks.pgd import PGD

__all__ = [
    "FGSM",
    "PGD",
    "Attack",
    "AttackLoss",
    "ClassificationLoss",
    "GradientAttack",
    "KLToClean",
    "LogitsLoss",
]
