"""plan_summary: what a user reads about a plan before it runs."""

from keras_advdef.attacks.latent_space_attack import projection_of
from keras_advdef.core.text import duration
from keras_advdef.evaluation._corrupt.strength import CORRUPTIONS, SEVERITIES
from keras_advdef.evaluation._plan.plan import Plan
from keras_advdef.evaluation._request.request import Request


def opening(request: Request) -> str:
    """Returns the first line of an evaluation, before the model has run.

    Args:
        request: The checked arguments.
    """
    ball = request.value_range.epsilon_text(request.epsilon)
    of = "the data set's" if request.given is None else str(request.given)
    return (
        f"Evaluating {request.count} of {of} images: {request.norm}, "
        f"epsilon {ball}, budget {request.budget.name}, seed {request.seed}."
    )


def plan_summary(
    request: Request, plan: Plan, *, classes: int, seconds_per_pass: float
) -> list[str]:
    """Returns lines that say what is planned, what it may cost, and what is skipped.

    Args:
        request: The checked arguments.
        plan: The planned stages.
        classes: Number of logits.
        seconds_per_pass: Duration of a forward and a backward pass of one image.
    """
    rows = min(request.count, request.budget.checked)
    passes = 0.0
    for stage in plan.stages:
        images = rows if stage.role == "check" else request.count
        passes += stage.passes(classes) * min(images, stage.images or images)
    lines = [
        f"Planned: {'; '.join(stage.label for stage in plan.stages)}. At most "
        f"{_rounded(passes)} model passes, {duration(passes * seconds_per_pass)} at "
        "the speed of a first try, plus the time to compile each attack. Attacks stop "
        "early on images that they break. The remaining time is shown once it is "
        "known.",
    ]
    projection = projection_of(request.evaluated.model)
    if projection is not None:
        searched = projection.steps * projection.restarts
        lines.append(
            f"Each model pass searches a latent space with {searched} generator "
            "passes. If this takes too long, evaluate fewer images."
        )
    if request.corruptions:
        kinds, each = len(CORRUPTIONS), len(SEVERITIES)
        lines.append(
            f"Then {kinds} common corruptions at {each} severities each: "
            f"{_rounded(kinds * each * request.count)} forward passes."
        )
    skipped = [f"Skipped: {each.attack} ({each.reason})." for each in plan.skipped]
    return lines + skipped


def _rounded(number: float) -> str:
    """Rounds a number to two digits and groups its thousands."""
    return f"{float(f'{number:.2g}'):,.0f}"
