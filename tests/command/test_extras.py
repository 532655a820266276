import pytest

from keras_advdef_command.extras import missing_extra


@pytest.mark.parametrize(
    ("error", "package"),
    [
        (ModuleNotFoundError("x", name="PIL.Image"), "PIL"),
        (ModuleNotFoundError("x", name="typer"), "typer"),
        (ModuleNotFoundError("x", name="os"), None),
        (ModuleNotFoundError("x"), None),
        (ImportError("x", name="typer"), None),
        (ValueError("typer"), None),
    ],
)
def test_names_the_package(error, package):
    assert missing_extra(error) == package
