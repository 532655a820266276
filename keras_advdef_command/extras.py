"""Tells a missing extra from other errors."""

# Import names of what the extra `all` installs.
_EXTRA = ("PIL", "jinja2", "matplotlib", "rich", "sklearn", "typer")


def missing_extra(error: BaseException) -> str | None:
    """Returns the package of the extra `all` whose absence made an import fail.

    Args:
        error: Any error.

    Returns:
        Its import name, or `None` if the error has another cause.
    """
    if not isinstance(error, ModuleNotFoundError):
        return None
    package = (error.name or "").partition(".")[0]
    return package if package in _EXTRA else None
