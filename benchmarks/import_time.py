"""How long `import keras_advdef` takes after `import keras`, in fresh interpreters.

python benchmarks/import_time.py
"""

import subprocess
import sys

import numpy as np
from timing import parse_arguments, print_report, verdict

LIMIT = 0.3
_PROGRAM = """
import time
start = time.perf_counter()
import keras
middle = time.perf_counter()
{}
print(middle - start, time.perf_counter() - middle)
"""


def seconds(statement: str) -> tuple[float, float]:
    """Returns the seconds of `import keras` and of a statement after it.

    Args:
        statement: Python statement, run in the same fresh interpreter.
    """
    program = _PROGRAM.format(statement)
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    keras_seconds, rest = map(float, result.stdout.split())
    return keras_seconds, rest


def main() -> None:
    """Times the imports and prints the table."""
    arguments = parse_arguments("Import time", rounds=7)
    statements = ("pass", "import keras_advdef")
    seconds(statements[1])  # writes the bytecode and warms the file cache
    rounds = []
    for index in range(arguments.rounds):
        # Every other round goes backwards: what runs second finds a warmer machine.
        order = statements[:: -1 if index % 2 else 1]
        taken = {each: seconds(each) for each in order}
        rounds.append([taken[each] for each in statements])
    alone, both = np.moveaxis(np.array(rounds), 1, 0)
    ours = float(both[:, 1].min())
    added = float(np.median(both.sum(axis=1) - alone.sum(axis=1)))
    rows = [
        ["import keras", f"{alone[:, 0].min():.2f} s", "-", "-"],
        [
            "import keras_advdef after it, timed alone",
            f"{ours:.2f} s",
            *verdict(ours, LIMIT, " s"),
        ],
        [
            "both imports less `import keras`, median of the pairs",
            f"{added:.2f} s",
            *verdict(added, LIMIT, " s"),
        ],
    ]
    print_report(
        "Import",
        ("", "fastest", "target", ""),
        rows,
        notes=f"{arguments.rounds} pairs of fresh interpreters in turns: one imports "
        "Keras, the other imports both.",
    )


if __name__ == "__main__":
    main()
