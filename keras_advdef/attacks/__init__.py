"""Attacks that run in the model's graph."""

from keras_advdef.attacks import losses
from keras_advdef.attacks.apgd import APGD
from keras_advdef.attacks.attack import Attack, Passes
from keras_advdef.attacks.auto_attack import AutoAttack
from keras_advdef.attacks.boundary_attack import BoundaryAttack
from keras_advdef.attacks.carlini_wagner import CarliniWagner
from keras_advdef.attacks.ddn import DDN
from keras_advdef.attacks.deep_fool import DeepFool
from keras_advdef.attacks.fab import FAB
from keras_advdef.attacks.fgsm import FGSM
from keras_advdef.attacks.fmn import FMN
from keras_advdef.attacks.gradient_attack import GradientAttack
from keras_advdef.attacks.hop_skip_jump import HopSkipJump
from keras_advdef.attacks.jsma import JSMA
from keras_advdef.attacks.latent_space_attack import LatentSpaceAttack
from keras_advdef.attacks.minimal_attack import MinimalAttack, MinimalAttackResult
from keras_advdef.attacks.nfgsm import NFGSM
from keras_advdef.attacks.pdpgd import PDPGD
from keras_advdef.attacks.pgd import PGD
from keras_advdef.attacks.sigma_zero import SigmaZero
from keras_advdef.attacks.spsa import SPSA
from keras_advdef.attacks.square import Square
from keras_advdef.attacks.stepped_attack import SteppedAttack
from keras_advdef.attacks.transfer import Transfer

__all__ = [
    "APGD",
    "DDN",
    "FAB",
    "FGSM",
    "FMN",
    "JSMA",
    "NFGSM",
    "PDPGD",
    "PGD",
    "SPSA",
    "Attack",
    "AutoAttack",
    "BoundaryAttack",
    "CarliniWagner",
    "DeepFool",
    "GradientAttack",
    "HopSkipJump",
    "LatentSpaceAttack",
    "MinimalAttack",
    "MinimalAttackResult",
    "Passes",
    "SigmaZero",
    "Square",
    "SteppedAttack",
    "Transfer",
    "losses",
]
