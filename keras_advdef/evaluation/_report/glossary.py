"""Glossary: explains the terms of a page where they stand, and lists them below."""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from keras_advdef.core.text import printable
from keras_advdef.evaluation._report.check_meanings import CHECK_MEANINGS

if TYPE_CHECKING:
    from markupsafe import Markup

# A term, the words that stand for it as a regular expression, and its explanation.
_WORDS = (
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
    (
        "clean",
        r"clean",
        "As taken, without any attack.",
    ),
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
    (
        "DeepFool",
        r"DeepFool",
        "Repeated steps to the nearest boundary of a class.",
    ),
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
)
_CHECKS = tuple(
    (name.replace("_", " "), name.replace("_", " "), f"Check: {meaning}")
    for name, meaning in CHECK_MEANINGS.items()
)
_TERMS = _WORDS + _CHECKS
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
