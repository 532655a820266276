"""Runs a script in a new interpreter and returns what it printed as JSON."""

import json
import os
import subprocess
import sys
from typing import Any

# Where scikit-learn is installed Keras imports it, in a quarter of the time of its own.
_START = "import sys; sys.modules['sklearn'] = None\n"


def run_fresh(
    script: str, *arguments: Any, timeout: float = 300, **environment: str
) -> Any:
    """Returns the JSON on the last line that a script printed, within `timeout` s."""
    done = subprocess.run(
        [sys.executable, "-c", _START + script, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])
