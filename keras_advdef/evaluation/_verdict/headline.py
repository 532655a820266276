"""States the result of an evaluation in one sentence, without overclaiming."""

from collections.abc import Sequence

from keras_advdef.attacks.apgd import APGD
from keras_advdef.attacks.attack import Attack
from keras_advdef.attacks.transfer import Transfer
from keras_advdef.evaluation._plan.plan import Plan
from keras_advdef.evaluation._request.request import Request
from keras_advdef.evaluation._verdict.judgements import Judgements
from keras_advdef.evaluation.accuracy_estimate import AccuracyEstimate
from keras_advdef.evaluation.better_than_chance import is_at_chance
from keras_advdef.evaluation.check import Check

# Checks that not every model needs.
_MAY_MISS = {"settled"}
_AUTOMATIC = ("APGD", "FAB", "Square")


def listed(names: Sequence[str]) -> str:
    """Joins names with commas and "and".

    Args:
        names: One name or more.

    Example:

    >>> from keras_advdef.evaluation._verdict.headline import listed
    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    *before, last = names
    return f"{', '.join(before)} and {last}" if before else last


def attacks_text(request: Request, plan: Plan) -> str:
    """Names the attacks behind a number, in short.

    Args:
        request: The checked arguments.
        plan: The stages.
    """
    kinds = list(dict.fromkeys(_kind(stage.attack) for stage in plan.stages))
    is_automatic = any(isinstance(stage.attack, APGD) for stage in plan.adaptive)
    if request.budget.name == "quick" or request.attacks is not None:
        return listed(kinds)
    if is_automatic:
        draws = max(stage.attack.eot_samples for stage in plan.adaptive)
        name = "AutoAttack (rand)" if draws > 1 else "AutoAttack"
        kinds = [name, *(kind for kind in kinds if kind not in _AUTOMATIC)]
    return listed(kinds)


def _kind(attack: Attack) -> str:
    return "transfer" if isinstance(attack, Transfer) else type(attack).__name__


def is_robust_accuracy(request: Request, plan: Plan, checks: Sequence[Check]) -> bool:
    """Returns whether a number may be called robust accuracy.

    Every attack of the budget and every attack named on a card of the model has run,
    and every check has run and passed; one that could not fail says nothing.

    Args:
        request: The checked arguments.
        plan: Which attacks ran and which were skipped.
        checks: The verdicts.
    """
    is_thorough = request.budget.name != "quick" and request.attacks is None
    # A missing surrogate counts only where a card asks for one.
    is_complete = all(each.attack == "transfer" for each in plan.skipped)
    is_complete &= not plan.missing
    # The attacks that its cards name stand in for this one.
    may_miss = _MAY_MISS | ({"true_gradients"} if request.evaluated.cards else set())
    return (
        is_thorough
        and is_complete
        and all(
            check.passed or (check.passed is None and check.name in may_miss)
            for check in checks
        )
    )


def headline(
    request: Request,
    plan: Plan,
    checks: Sequence[Check],
    *,
    clean: AccuracyEstimate,
    adaptive: AccuracyEstimate,
    judged: Judgements | None = None,
    certified: AccuracyEstimate | None = None,
) -> str:
    """Returns the result of an evaluation in one sentence.

    Args:
        request: The checked arguments.
        plan: Which attacks ran and which were skipped.
        checks: The verdicts.
        clean: Accuracy on clean images.
        adaptive: Accuracy under all attacks.
        judged: What the draws of a random model say, `None` if it is deterministic.
        certified: Share of images that no attack can change, `None` without any.
    """
    attacks = attacks_text(request, plan)
    epsilon = request.value_range.epsilon_text(request.epsilon)
    scope = f"{request.count} images"
    if request.given is None:
        scope = f"the first {scope} of the data set"
    elif request.given > request.count:
        scope = f"the first {request.count} of {request.given} images"
    failed = [check.reason for check in checks if check.passed is False]
    warning = f"Gradient masking suspected: {'; '.join(failed)}. " if failed else ""
    if is_at_chance(checks):
        # Gradient masking does not matter in a model that has learned nothing.
        warning = f"{failed[0][0].upper()}{failed[0][1:]} "
    claim = _claim(
        adaptive,
        attacks,
        is_robust=is_robust_accuracy(request, plan, checks),
        judged=judged,
        certified=certified,
    )
    ball = f"{request.norm}, epsilon {epsilon}"
    return f"{warning}{claim}, {ball}, on {scope}; clean accuracy {clean}."


def _claim(
    adaptive: AccuracyEstimate,
    attacks: str,
    *,
    is_robust: bool,
    judged: Judgements | None,
    certified: AccuracyEstimate | None,
) -> str:
    """What is said of the accuracy under attack."""
    drawn = f", {judged}" if judged else ""
    if certified is None:
        if is_robust:
            drawn = drawn and f"{drawn},"
            return f"Robust accuracy {adaptive}{drawn} under {attacks}"
        return f"Accuracy under {attacks}: {adaptive}{drawn}"
    least = f"{100.0 * certified.accuracy:.1f} %"
    if is_robust:
        most = f"at most {adaptive} ({attacks})"
        return f"Robust accuracy at least {least} (certified), {most}"
    return f"Accuracy under {attacks}: {adaptive}, and at least {least} (certified)"
