"""What the cards of several layers cite."""

from keras_advdef.core.cards import Break

SQUEEZING = (
    "Xu, Evans, Qi: Feature Squeezing: Detecting Adversarial Examples in Deep Neural "
    "Networks, NDSS 2018"
)
COUNTERING = (
    "Guo, Rana, Cisse, van der Maaten: Countering Adversarial Images Using Input "
    "Transformations, ICLR 2018"
)
COUNTERING_CLAIM = (
    "Together with the paper's other transformations, removes 60 % of strong gray-box "
    "and 90 % of strong black-box attacks on ImageNet."
)
# Athalye et al. on the transformations of Guo et al.
_LEFT = "0 % accuracy on ImageNet at normalised l2 0.05"
_OBFUSCATED = "Athalye, Carlini, Wagner 2018"
BROKEN_BY_BPDA = Break(
    attack="BPDA (identity backward)",
    result=_LEFT,
    source=f"{_OBFUSCATED}, on the input transformations of Guo et al.",
)
BROKEN_BY_BPDA_AND_EOT = Break(attack="BPDA and EOT", result=_LEFT, source=_OBFUSCATED)
EVADED_SQUEEZING = Break(
    attack="detector-aware C&W",
    result="the squeezing detector is evaded on MNIST and CIFAR-10",
    source="He, Wei, Chen, Carlini, Song 2017",
)
