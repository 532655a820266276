"""Glossary: explains the terms of a page where they stand, and lists them below."""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from keras_advdef.core.text import printable

if TYPE_CHECKING:
    from markupsafe import Markup

# A term, the words that stand for it as a regular expression, and its explanation.
_TERMS = (
    (
        "epsilon",
        r"epsilons?",
        "The largest change that the attacker may make to an image, by some norm.",
    ),
    (
        "linf",
        r"linf",
        "The norm that takes the largest change of any pixel: every pixel may change "
        "by up to epsilon.",
    ),
    (
        "l2",
        r"l2",
        "The norm that takes the root of the summed squares of all changes, as the "
        "length of an arrow.",
    ),
    (
        "l1",
        r"l1",
        "The norm that sums the sizes of all changes: few pixels may change much, or "
        "many a little.",
    ),
    ("clean", r"clean", "As taken, without any attack."),
    (
        "adversarial image",
        r"adversarial(?: images?)?",
        "An image that looks the same to people but was changed so that the model gets "
        "it wrong.",
    ),
    (
        "95 % interval",
        r"(?:95 % )?Clopper-Pearson intervals?",
        "On other images of the same kind, the accuracy would lie between the numbers "
        "in brackets with at least 95 % confidence. It says nothing about other "
        "attacks.",
    ),
    (
        "robust accuracy",
        r"robust accuracy",
        "The share of images that the model gets right whatever the attacker does. "
        "Attacks can only show that it is at most so high.",
    ),
    (
        "gradient masking",
        r"gradient masking",
        "The model hides the direction in which an image would have to change, so "
        "attacks fail although adversarial images exist.",
    ),
    (
        "naive attack",
        r"naive attack",
        "An attack that does not know about the defence.",
    ),
    (
        "all attacks",
        r"all attacks",
        "An image counts as right only if every attack of this report left it right.",
    ),
    (
        "reference",
        r"reference",
        "The same model without the defence, to see what the defence gains and costs.",
    ),
    (
        "biased high",
        r"biased high",
        "The same draws of a random model chose the images and judged them. The "
        "accuracy under all attacks is measured on fresh draws.",
    ),
    (
        "budget",
        r"budget",
        "How thoroughly the model was attacked: quick is a first look, standard and "
        "full are meant for publication.",
    ),
    (
        "smallest perturbation",
        r"smallest perturbations?",
        "The smallest change found that makes the model wrong about an image.",
    ),
    (
        "certified",
        r"certified",
        "Proved for every possible change within the radius, not only for the attacks "
        "that ran.",
    ),
    (
        "common corruptions",
        r"common corruptions",
        "Noise, blur, weather and compression, as they happen without any attacker.",
    ),
    (
        "FGSM",
        r"FGSM",
        "One step along the gradient of the loss: the fastest attack, and a weak one.",
    ),
    (
        "PGD",
        r"PGD",
        "Many small steps along the gradient, each followed by a return to within "
        "epsilon. The number is that of the steps.",
    ),
    (
        "APGD",
        r"APGD",
        "PGD that chooses its step sizes itself; the main part of AutoAttack.",
    ),
    (
        "AutoAttack",
        r"AutoAttack",
        "Four attacks in a row (APGD twice, FAB, Square), the usual test of published "
        "defences.",
    ),
    (
        "FAB",
        r"FAB",
        "An attack that looks for the nearest image that the model gets wrong.",
    ),
    (
        "Square",
        r"Square",
        "An attack by random search that asks only for the model's scores, so hiding "
        "gradients does not stop it. The number is that of the questions.",
    ),
    (
        "HopSkipJump",
        r"HopSkipJump",
        "An attack that asks only for the predicted class.",
    ),
    (
        "SPSA",
        r"SPSA",
        "An attack that estimates the gradient from pairs of the model's scores.",
    ),
    (
        "nearest images",
        r"DDN|FMN|PDPGD|SigmaZero",
        "DDN, FMN, PDPGD and SigmaZero look for the smallest perturbation.",
    ),
    ("DeepFool", r"DeepFool", "Repeated steps to the nearest boundary of a class."),
    (
        "DLR",
        r"dlr|TargetedDLR",
        "A loss for attacks that does not depend on the scale of the model's scores.",
    ),
    (
        "EOT",
        r"EOT",
        "The attack averages gradients over several draws of a random model.",
    ),
    (
        "BPDA",
        r"BPDA",
        "The attack replaces steps without a gradient by similar ones that have one.",
    ),
    (
        "transferred",
        r"transferred|transfer",
        "Adversarial images made for one model and tried on another.",
    ),
    (
        "logits",
        r"logits?",
        "The scores of the classes before they become probabilities.",
    ),
    (
        "better than chance",
        r"better than chance",
        "Check: does the model do better than guessing?",
    ),
    (
        "accuracy reaches zero",
        r"accuracy reaches zero",
        "Check: an attacker who may change everything must always win. If not, the "
        "attack fails for another reason.",
    ),
    (
        "more steps",
        r"more steps",
        "Check: a longer attack must not be weaker than a shorter one.",
    ),
    (
        "iterative vs one step",
        r"iterative vs one step",
        "Check: many steps must not be weaker than one.",
    ),
    (
        "black box vs white box",
        r"black box vs white box",
        "Check: an attack that sees only scores must not be stronger than one that "
        "sees the whole model.",
    ),
    (
        "transfer vs white box",
        r"transfer vs white box",
        "Check: images made for another model must not be stronger than an attack on "
        "this one.",
    ),
    (
        "decisions vs white box",
        r"decisions vs white box",
        "Check: an attack that asks only for the predicted class must not be stronger "
        "than one that sees the whole model.",
    ),
    (
        "true gradients",
        r"true gradients",
        "Check: do short steps along the gradient do what it promises? Otherwise it is "
        "the gradient of something else.",
    ),
    (
        "attacks find planted perturbation",
        r"attacks find planted perturbation",
        "Check: where a perturbation exists by construction, do these attacks find it?",
    ),
    (
        "steady",
        r"steady",
        "Check: does the model still answer as it did before the attacks, for images "
        "alone and in another order, too?",
    ),
    (
        "settled",
        r"settled",
        "Check: after another check failed, do further attacks still lower the "
        "accuracy?",
    ),
    (
        "noise vs attack",
        r"noise vs attack",
        "Check: random noise must not be stronger than an attack.",
    ),
    (
        "input gradients",
        r"input gradients",
        "Check: attacks need the gradient of the loss with respect to the pixels; is "
        "there one?",
    ),
    (
        "saturated logits",
        r"saturated logits",
        "Check: very sure models give attacks nothing to follow; is this one of them?",
    ),
    (
        "logits not probabilities",
        r"logits not probabilities",
        "Check: probabilities of exactly 0 and 1 hide how close the other classes are.",
    ),
    (
        "finite logits",
        r"finite logits",
        "Check: does the model give numbers for every image that was tried? An image "
        "without them counts as right, not as broken.",
    ),
    (
        "deterministic",
        r"deterministic",
        "Check: does the model give the same answer twice?",
    ),
    (
        "no detector",
        r"no detector",
        "Check: is there a class that means “this image was attacked”?",
    ),
    (
        "naive vs adaptive",
        r"naive vs adaptive",
        "Check: if the attacks that know the defence are far stronger than the naive "
        "one, the defence mostly hides.",
    ),
)
# Longer terms first, so that parts of them do not hide them.
_ORDERED = sorted(_TERMS, key=lambda term: -len(term[1]))
_PATTERN = re.compile(
    r"(?<![\w-])(?:"
    + "|".join(f"(?P<t{_TERMS.index(each)}>{each[1]})" for each in _ORDERED)
    + r")(?!\w)",
    re.IGNORECASE,
)


class Glossary:
    """Explains terms in texts, and remembers which ones."""

    def __init__(self) -> None:
        self._used: set[int] = set()

    def explained(self, text: str) -> "Markup":
        """Returns a text as HTML in which each term carries its explanation.

        Args:
            text: Plain text; everything else in it is escaped.
        """
        from markupsafe import Markup, escape

        text, parts, end = printable(text), [], 0
        for found in _PATTERN.finditer(text):
            number = int((found.lastgroup or "t0")[1:])
            self._used.add(number)
            _, _, meaning = _TERMS[number]
            link = Markup('<a class="term" href="#term-{}" title="{}">{}</a>')
            parts += [
                escape(text[end : found.start()]),
                link.format(number, meaning, found.group()),
            ]
            end = found.end()
        return Markup("").join([*parts, escape(text[end:])])

    def entries(self) -> Iterable[tuple[int, str, str]]:
        """Yields number, name and meaning of each term used so far, by name."""
        terms = [(number, *_TERMS[number]) for number in self._used]
        for number, name, _, meaning in sorted(terms, key=lambda term: term[1].lower()):
            yield number, name, meaning
