"""Reports with a text of others in every place."""


def with_text(values, text):
    """The values of a report with a text wherever one stands, in keys of them too."""
    if isinstance(values, dict):
        keys = [f"{key} {text}" if key in ("keras", "numpy") else key for key in values]
        return dict(
            zip(keys, (with_text(each, text) for each in values.values()), strict=True)
        )
    if isinstance(values, list):
        return [with_text(each, text) for each in values]
    return text if isinstance(values, str) else values
