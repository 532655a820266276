import re
from pathlib import Path

import numpy as np
import pytest

_ROOT = Path(__file__).parent.parent
_README = (_ROOT / "README.md").read_text(encoding="utf-8")
_BLOCKS = re.findall(r"^```python\n(.*?)^```", _README, re.DOTALL | re.MULTILINE)


@pytest.fixture
def namespace():
    """The images and labels that the README's blocks speak of, few and small."""
    generator = np.random.default_rng(0)
    labels = np.arange(24) % 10
    images = generator.uniform(size=(24, 28, 28, 1)).astype(np.float32)
    return {"x": images, "y": labels, "xv": images[:10], "yv": labels[:10]}


def test_readme_has_blocks():
    assert _BLOCKS


def test_blocks_run_in_order(namespace, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for block in _BLOCKS:
        exec(compile(block, "README.md", "exec"), namespace)
    assert (tmp_path / "model.keras").is_file()
    assert (tmp_path / "served" / "saved_model.pb").is_file()


def test_commands_stand_as_promised():
    assert 'python -m pip install -e ".[all]" && keras-advdef demo\n' in _README
    tests = 'python -m pip install -e ".[all,test]" && python -m pytest\n'
    assert tests in _README


@pytest.mark.parametrize("target", re.findall(r"\]\((?!https?:|#)([^)]+)\)", _README))
def test_links_lead_somewhere(target):
    assert (_ROOT / target).exists()
