"""Fixtures for several tests of core."""

import os
import subprocess
import sys

import pytest


@pytest.fixture
def in_fresh_process():
    """Runs a script in a new interpreter and returns the last line it prints."""

    def run(script, *arguments):
        done = subprocess.run(
            [sys.executable, "-c", script, *map(str, arguments)],
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout.strip().splitlines()[-1]

    return run
