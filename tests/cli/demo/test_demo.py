import io
import resource

import keras
import numpy as np
import pytest
from rich.console import Console

from keras_advdef.cli.demo import demo
from keras_advdef.cli.demo.demo import run_demo
from keras_advdef_command.demo_flags import DemoFlags


@pytest.fixture(scope="module")
def started(tmp_path_factory, module_npz):
    """Runs the demo on two tiny classes; returns the result, its flags and the text."""
    output = tmp_path_factory.mktemp("demo") / "out"
    flags = DemoFlags(
        data=str(module_npz), output=output, epsilon="0.05", epochs=1, seed=2**31 - 1
    )
    return *_run(flags), flags


@pytest.fixture(scope="module")
def module_npz(tmp_path_factory):
    """A .npz file of dark and bright images."""
    draw = np.random.default_rng(0)
    labels = np.arange(40) % 2
    images = (128 * labels[:, None, None] + draw.integers(0, 128, (40, 6, 5))).astype(
        np.uint8
    )
    path = tmp_path_factory.mktemp("data") / "toy.npz"
    np.savez(path, x_train=images, y_train=labels, x_test=images, y_test=labels)
    return path


def _run(flags):
    stream = io.StringIO()
    result = run_demo(flags, Console(file=stream, width=100))
    return result, " ".join(stream.getvalue().split())


def test_hardens_what_it_trained(started):
    result, text, flags = started
    names = {path.name for path in flags.output.iterdir()}
    assert names >= {"undefended.keras", "model.keras", "served", "report.html"}
    assert result.after.headline in text
    for report in (result.before, result.after):
        assert f"{100 * report.adaptive['accuracy']:.1f} %" in text
    undefended, defended = (
        keras.saving.load_model(flags.output / name).get_weights()
        for name in ("undefended.keras", "model.keras")
    )
    for one, other in zip(defended, result.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert any((a != b).any() for a, b in zip(undefended, defended, strict=True))


def test_runs_again(started, monkeypatch):
    first, _, flags = started
    monkeypatch.setattr(demo, "_train", lambda *given: pytest.fail("trains again"))
    result, text = _run(flags)
    assert "already finished" in text
    assert result.after.adaptive == first.after.adaptive


def test_another_seed_needs_another_folder(started):
    flags = started[-1]
    other = DemoFlags(**{**vars(flags), "seed": 1})
    with pytest.raises(ValueError, match="It holds a run with another"):
        _run(other)


class TestUndefended:
    @pytest.fixture
    def flags(self, tmp_path, module_npz):
        output = tmp_path / "out"
        return DemoFlags(data=str(module_npz), output=output, epochs=1)

    def test_refuses_a_damaged_file(self, flags):
        flags.output.mkdir()
        (flags.output / "undefended.keras").write_text("no model")
        with pytest.raises(ValueError, match=r"without a foreign undefended\.keras"):
            _run(flags)

    def test_full_disk(self, flags):
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        # A program sees the same as on a full disk, except for the words.
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        try:
            with pytest.raises(ValueError, match=r"can be written to.*File too large"):
                _run(flags)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert list(flags.output.iterdir()) == []
