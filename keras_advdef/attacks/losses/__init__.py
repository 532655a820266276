"""What attacks maximise."""

from keras_advdef.attacks.losses.attack_loss import AttackLoss
from keras_advdef.attacks.losses.classification_loss import ClassificationLoss
from keras_advdef.attacks.losses.kl_to_clean import KLToClean
from keras_advdef.attacks.losses.logits_loss import LogitsLoss
from keras_advdef.attacks.losses.member_dlr import MemberDLR
from keras_advdef.attacks.losses.targeted_dlr import TargetedDLR

__all__ = [
    "AttackLoss",
    "ClassificationLoss",
    "KLToClean",
    "LogitsLoss",
    "MemberDLR",
    "TargetedDLR",
]
