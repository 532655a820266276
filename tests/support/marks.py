"""Reasons to skip tests on some machines."""

import os

import pytest

needs_pipes = pytest.mark.skipif(
    not hasattr(os, "mkfifo"), reason="Windows has no pipes"
)
