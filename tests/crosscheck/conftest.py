"""Lets ART write its settings before a test imports it.

Its first import on a machine does so, and a second process that comes upon the file
half-way fails: one process goes after the other here, and those that find the settings
written go on at once. ART is imported in a process of its own, since it closes the
streams that other libraries log to, and one of those is pytest's own while it looks
through folders.
"""

import fcntl
import subprocess
import sys
import tempfile
from pathlib import Path

# ART takes the second where it cannot write into the first.
SETTINGS = [Path(each).expanduser() / ".art" / "config.json" for each in ("~", "/tmp")]

with open(Path(tempfile.gettempdir()) / "keras_advdef_art.lock", "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    if not any(path.exists() for path in SETTINGS):
        # Where ART is not installed this fails, and the tests say that they need it.
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", "import art.config"],
            capture_output=True,
            check=False,
        )
