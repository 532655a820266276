"""The sentence that refuses an argument, as the whole package words it."""

import reprlib

_shortened = reprlib.Repr()
_shortened.maxstring = 120


class RefusedArgument(ValueError):
    """An argument of the command line that cannot be used; the message says why."""


def refusal(
    argument: str,
    rule: str,
    typed: str,
    *,
    advice: str = "",
    owner: str = "keras-advdef",
) -> RefusedArgument:
    """Returns the error for an argument that cannot be used.

    Args:
        argument: Name of the argument, as in the help.
        rule: What is accepted, to complete "expects `argument` to be ...".
        typed: What the user typed.
        advice: A sentence that says what to do, or empty.
        owner: The command that refuses it.

    Example:

    >>> from keras_advdef_command.refusal import refusal
    >>> str(refusal("--norm", "linf or l2", "l3"))
    "`keras-advdef` expects `--norm` to be linf or l2. Received: --norm='l3'."
    """
    received = f"{argument}={_shortened.repr(typed)}"
    text = f"`{owner}` expects `{argument}` to be {rule}. Received: {received}."
    return RefusedArgument(f"{text} {advice}" if advice else text)
