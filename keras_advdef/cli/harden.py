"""The command `harden`: trains a saved model to withstand attacks."""

from pathlib import Path

from rich.console import Console

from keras_advdef.cli._print_hardened import print_hardened
from keras_advdef.cli._print_line import print_line
from keras_advdef.cli._rich_progress import RichProgress
from keras_advdef.cli.data.load import load_dataset
from keras_advdef.core.errors import invalid
from keras_advdef.core.read_keras import read_keras
from keras_advdef.core.value_range import ValueRange
from keras_advdef.recipes.harden import harden
from keras_advdef.recipes.hardened_model import HardenedModel
from keras_advdef_command.harden_flags import HardenFlags


def run_harden(flags: HardenFlags, console: Console) -> HardenedModel:
    """Hardens a model, or continues a stopped run, and prints the result.

    Args:
        flags: What the user asked for.
        console: Where progress and the result go.

    Returns:
        The hardened model.

    Raises:
        ValueError: If a flag, the model, the data or the output cannot be used.
        OSError: If a file cannot be read or written.
    """

    def refuse(advice: str) -> ValueError:
        rule = "a .keras or .h5 file with a Keras model"
        return invalid("keras-advdef", "MODEL", rule, flags.model, advice=advice)

    arguments = flags.arguments()
    model = read_keras(Path(flags.model), refuse)
    dataset = load_dataset(flags.data)
    pixels = ValueRange.parse("keras-advdef", arguments["value_range"])
    parts = [
        (pixels.from_unit(images), labels)
        for images, labels in (
            (dataset.x_train, dataset.y_train),
            (dataset.x_test, dataset.y_test),
        )
    ]
    print_line(
        console,
        f"Data: {len(dataset.x_train)} training and {len(dataset.x_test)} test images "
        f"of {flags.data}.",
    )
    with RichProgress(console) as progress:
        hardened = harden(
            model,
            *parts,
            class_names=dataset.class_names or None,
            data_name=f"the test images of {flags.data}",
            verbose=progress,
            **arguments,
        )
    print_hardened(hardened, flags.output, console)
    return hardened
