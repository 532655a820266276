"""attack_rows: each attack of a report once, by what it was for."""

from typing import Any

# By the key of the stage.
_PURPOSES = {
    "naive": "ignores the defence",
    "check-fgsm": "one step, to compare with many",
    "check-iterative": "many steps, to compare with one",
    "check-more-steps": "more steps, to compare with fewer",
    "check-temperature": "undoes saturated logits",
    "check-noise": "noise, to compare with an attack",
    "check-black-box": "needs no gradient",
    "check-transfer": "comes from another model",
    "check-decision": "asks only for the predicted class",
    "bpda": "passes layers without a gradient",
    "longer-0": "starts anew, to see whether that breaks more",
    "longer-1": "takes more steps, as fewer still gained",
    "longer-2": "takes more steps, as fewer still gained",
    "closing-0-alone": "attacks each image in a batch of its own",
    "closing-0-bpda": "passes layers with a false gradient",
}
# By its role, for stages that are not listed.
_ROLES = {
    "naive": "ignores the defence",
    "check": "tests the other attacks",
    "adaptive": "attacks what is left",
    "closing": "presses on after a failed check",
    "curve": "looks for smaller perturbations",
}
_TARGETED = "target-"


def attack_rows(data: dict[str, Any]) -> list[list[str]]:
    """Returns a row for each attack: name, purposes, images, and accuracy it took.

    Stages with the same attack share a row. What all attacks took adds up to the
    difference between the clean accuracy and the one under all attacks.

    Args:
        data: The contents of `report.json`.
    """
    before = data["clean"]["accuracy"]
    rows: dict[str, dict[str, Any]] = {}
    for each in data["attacks"]:
        row = rows.setdefault(each["name"], {"for": {}, "images": 0, "took": 0.0})
        row["for"][_purpose(each)] = None
        row["images"] = max(row["images"], each["images"])
        row["took"] += before - each["accuracy_after"]
        before = each["accuracy_after"]
    return [
        [
            name,
            "; ".join(row["for"]),
            str(row["images"]),
            # Rounding and the sign of zero must not show.
            f"{round(100 * row['took'], 1) + 0.0:.1f} points",
        ]
        for name, row in rows.items()
    ]


def _purpose(record: dict[str, Any]) -> str:
    key = record.get("key", "")
    if key.startswith(_TARGETED):
        return "evades the class that raises the alarm"
    return _PURPOSES.get(key) or _ROLES.get(record["role"], record["role"])
