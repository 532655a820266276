"""not_run: the verdict of a check that could not be run."""

from keras_advdef.evaluation.check import Check


def not_run(name: str, reason: str, why: str) -> Check:
    """Returns a check that has neither passed nor failed.

    Args:
        name: Name of the check.
        reason: How the headline would describe a failure.
        why: Why it was not run, as half a sentence.

    Example:

    >>> from keras_advdef.evaluation._verdict.not_run import not_run
    >>> not_run("steady", "the answers change", "there are no images").detail
    'Not run: there are no images.'
    """
    return Check(name=name, passed=None, detail=f"Not run: {why}.", reason=reason)
