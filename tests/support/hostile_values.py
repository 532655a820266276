"""Reports with a hostile text in every place."""


def with_text(values, text):
    """A report's values with every text replaced, also in keys."""
    if isinstance(values, dict):
        keys = [f"{key} {text}" if key in ("keras", "numpy") else key for key in values]
        return dict(
            zip(keys, (with_text(each, text) for each in values.values()), strict=True)
        )
    if isinstance(values, list):
        return [with_text(each, text) for each in values]
    return text if isinstance(values, str) else values
