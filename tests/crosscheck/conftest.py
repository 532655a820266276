"""Imports ART in one process after the other.

Where it was never imported before, it writes a file of settings, and a second process
that comes upon it half-way fails.
"""

import contextlib
import fcntl
import tempfile
import warnings
from pathlib import Path

with (
    open(Path(tempfile.gettempdir()) / "keras_advdef_art.lock", "w") as lock,
    warnings.catch_warnings(),
    contextlib.suppress(ImportError),
):
    fcntl.flock(lock, fcntl.LOCK_EX)
    # As in pytest's own run of a test module, they are ART's affair.
    warnings.simplefilter("ignore")
    import art.config  # noqa: F401
