"""attack_record: what a report says about one attack."""

from keras_advdef.evaluation._run.runner import Runner

Record = dict[str, str | int | float]


def attack_record(
    runner: Runner, *, key: str, name: str, role: str, images: int
) -> Record:
    """Returns the report's entry for an attack that has just ended.

    Args:
        runner: Holds the worst case of all attacks so far.
        key: Key of the stage.
        name: Name of the attack, for readers.
        role: What it was for; see `Stage`.
        images: Number of images that it attacked.
    """
    return {
        "key": key,
        "name": name,
        "role": role,
        "images": images,
        "accuracy_after": float(1.0 - (runner.wrong / runner.draws).mean()),
    }
