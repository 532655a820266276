import os

import pytest

from keras_advdef.cli.data.load import load_dataset, load_test_images
from keras_advdef_command.paths import (
    BUNDLED,
    DOWNLOADED,
    check_data,
    check_model,
    check_output,
    is_data_folder,
)
from keras_advdef_command.refusal import RefusedArgument

_TOO_LONG = "a" * 5000


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a file, a folder, and a folder that holds a SavedModel."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "saved_model.pb").touch()
    return tmp_path


class TestCheckData:
    @pytest.mark.parametrize("spec", [*BUNDLED, *DOWNLOADED, "file", "folder"])
    def test_accepts(self, here, spec):
        check_data(spec)

    @pytest.mark.parametrize(
        ("spec", "text"),
        [
            (
                "mnits",
                "digits, mnist, fashion_mnist, cifar10, or an existing",
            ),
            ("", "Check the path"),
            ("file/a.npz", "Check the path"),
            (_TOO_LONG, "cannot be opened: File name too long"),
        ],
    )
    def test_refuses(self, here, spec, text):
        for check in (check_data, load_dataset, load_test_images):
            with pytest.raises(RefusedArgument, match=text):
                check(spec)

    def test_tells_folders(self, here):
        assert is_data_folder("folder")
        assert not is_data_folder("file")


class TestCheckModel:
    @pytest.mark.parametrize("spec", ["file", "served"])
    def test_accepts(self, here, spec):
        check_model("MODEL", spec)

    @pytest.mark.parametrize(
        ("spec", "text"),
        [
            ("net.keras", "There is no such file or folder; check the path"),
            ("", "There is no such file or folder"),
            ("folder", "This folder lacks saved_model.pb"),
            (_TOO_LONG, "cannot be opened: File name too long"),
        ],
    )
    def test_refuses(self, here, spec, text):
        with pytest.raises(RefusedArgument, match=rf"`--reference` to be a .*{text}"):
            check_model("--reference", spec)


class TestCheckOutput:
    @pytest.mark.parametrize("name", ["folder", "new", "new/deep", "."])
    def test_accepts(self, here, name):
        check_output(here / name)
        check_output((here / name).relative_to(here))
        assert sorted(os.listdir(here)) == ["file", "folder", "served"]

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("file", "'file' is a file. Choose"),
            ("file/out", "file' is a file"),
            (_TOO_LONG, "cannot be opened: File name too long"),
        ],
    )
    def test_refuses(self, here, name, text):
        path = (here / name).relative_to(here)
        with pytest.raises(RefusedArgument, match=rf"`--output` to be .*{text}"):
            check_output(path)

    def test_refuses_what_cannot_be_written_to(self, here, monkeypatch):
        asked = []
        monkeypatch.setattr(os, "access", lambda *given: asked.append(given))
        with pytest.raises(RefusedArgument, match="folder' cannot be written to"):
            check_output(here / "folder" / "new")
        assert asked == [(here / "folder", os.W_OK | os.X_OK)]
