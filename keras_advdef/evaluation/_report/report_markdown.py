"""Renders a report as Markdown, and its tables for the HTML page too."""

from typing import Any

from keras_advdef.core.text import escape_markdown, markdown_table, printable
from keras_advdef.evaluation._report.attack_rows import attack_rows
from keras_advdef.evaluation._report.class_label import class_label, named_classes
from keras_advdef.evaluation._report.epsilon_words import epsilon_label
from keras_advdef.evaluation._report.plain_words import plain_words
from keras_advdef.evaluation.accuracy_estimate import percent
from keras_advdef.evaluation.corruption_report import CorruptionReport

# The accuracies of a random model besides the mean.
_OTHERS = (("right in all of the draws", "worst"), ("by majority vote", "majority"))
_VERDICTS = {True: "passed", False: "FAILED", None: "not run"}

Table = tuple[str, list[str], list[list[str]]]


def report_tables(data: dict[str, Any]) -> list[Table]:
    """Returns the title, header and rows of each table of a report, as plain text.

    Args:
        data: The contents of `report.json`.
    """
    tables = (
        *_beside_reference(data),
        _accuracies(data),
        *_norms(data),
        _checks(data),
        _attacks(data),
        _defence_costs(data),
        _curve(data),
        *_certified(data),
        *_corrupted(data),
        _classes(data),
        _facts(data),
    )
    return [
        (printable(title), header, [[*map(printable, row)] for row in rows])
        for title, header, rows in tables
    ]


def _accuracies(data: dict[str, Any]) -> Table:
    rows = [
        ["clean images", percent(data["clean"]), str(data["clean"]["count"])],
        [
            "naive attack: " + ", ".join(data["naive"]["attacks"]),
            percent(data["naive"]),
            str(data["naive"]["count"]),
        ],
        [
            "all attacks, worst case for each image",
            percent(data["adaptive"]),
            str(data["adaptive"]["count"]),
        ],
    ]
    if "judgements" in data["adaptive"]:
        drawn = data["adaptive"]["judgements"]
        rows[-1][0] += f", mean of {drawn['draws']} fresh draws of the model"
        for name, key in _OTHERS:
            each = drawn[key]
            rows.append([f"all attacks, {name}", percent(each), str(each["count"])])
    within = data.get("certified_accuracy")
    if within is not None:
        counted = [percent(within), str(within["count"])]
        rows.append(["certified, whatever the attack", *counted])
    title = "Accuracy, with 95 % Clopper-Pearson intervals"
    return title, ["", "accuracy", "images"], rows


def _beside_reference(data: dict[str, Any]) -> list[Table]:
    """The model and the reference side by side, if there is a reference."""
    other = data.get("reference")
    if other is None:
        return []
    named = (data["run"].get(name) or {} for name in ("model", "reference"))
    names = [each.get("name") or "unnamed" for each in named]
    at = f"attacked, at epsilon {_epsilon(data, data['epsilon'])}"
    rows = [
        ["clean images", percent(data["clean"]), percent(other["clean"])],
        [at, percent(data["adaptive"]), percent(other["adaptive"])],
        ["attacks", "all of this report", ", ".join(other["adaptive"]["attacks"])],
        *_both_corrupted(data.get("corruptions"), other.get("corruptions")),
    ]
    header = ["", f"model: {names[0]}", f"reference: {names[1]}"]
    return [("The model beside the reference", [*map(printable, header)], rows)]


def _both_corrupted(ours: Any, theirs: Any) -> list[list[str]]:
    if ours is None or theirs is None:
        return []
    both = (CorruptionReport.from_json(each).mean for each in (ours, theirs))
    return [["common corruptions, on average", *map(percent, both)]]


def _norms(data: dict[str, Any]) -> list[Table]:
    """The accuracy under each norm and under any of them, if there are several."""
    if "norms" not in data:
        return []
    rows = [
        [
            each["norm"],
            epsilon_label(each["epsilon"], each["norm"], data["value_range"]),
            percent(each["adaptive"]),
            ", ".join(map(_spaced, each["failed_checks"])) or "none",
        ]
        for each in data["norms"]
    ]
    rows.append(["any of them", "", percent(data["union"]), ""])
    title = "Accuracy under each norm, worst case for each image"
    return [(title, ["norm", "epsilon", "accuracy", "failed checks"], rows)]


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def _checks(data: dict[str, Any]) -> Table:
    names = data.get("class_names")
    rows = [
        [
            _spaced(check["name"]),
            _VERDICTS[check["passed"]],
            named_classes(check["detail"], names),
        ]
        for check in data["checks"]
    ]
    return "Sanity checks", ["check", "verdict", "finding"], rows


def _attacks(data: dict[str, Any]) -> Table:
    rows = attack_rows(data)
    rows += [
        [each["attack"], f"skipped: {each['reason']}", "-", "-"]
        for each in data["skipped"]
    ]
    took = "accuracy it took"
    if "judgements" in data["adaptive"]:
        # The worst of several noisy numbers is biased low.
        took += ", biased high"
    header = ["attack", "what it is for", "images attacked", took]
    return "Attacks", header, rows


def _defence_costs(data: dict[str, Any]) -> Table:
    costs = data["duties"]
    change, inference = (
        costs["clean_accuracy_change"],
        data["run"].get("inference", {}),
    )
    smallest = costs["smallest_perturbation"]
    rows = [
        ["layers added", _known(costs["architecture"]["layers_added"])],
        ["parameters added", _known(costs["architecture"]["parameters_added"])],
        ["clean accuracy relative to the reference", _change(change)],
        [
            "inference time relative to the reference",
            f"{inference['inference_time_ratio']:.2f} times"
            if "inference_time_ratio" in inference
            else "not measured: no reference model",
        ],
    ]
    rows += [
        [f"accuracy at epsilon {_epsilon(data, point['epsilon'])}", percent(point)]
        for point in costs["small_epsilons"]
    ]
    rows.append(["median smallest perturbation", _smallest(data, smallest)])
    return "Costs and benefits of the defence", ["quantity", "measured"], rows


def _known(value: Any) -> str:
    return "unknown" if value is None else str(value)


def _change(change: dict[str, Any] | None) -> str:
    if change is None:
        return "not measured: no reference model"
    low, high = change["interval"]
    points = f"{100 * change['difference']:+.1f} points"
    return f"{points} [{100 * low:+.1f}, {100 * high:+.1f}]"


def _epsilon(data: dict[str, Any], epsilon: float) -> str:
    return epsilon_label(epsilon, data["norm"], data["value_range"])


def _smallest(data: dict[str, Any], smallest: dict[str, Any] | None) -> str:
    if smallest is None:
        return "not measured"
    source = f"{smallest['attack']}, {smallest['count']} images"
    if smallest["median"] is None:
        return f"none found for at least half of the images ({source})"
    return f"{_epsilon(data, smallest['median'])} ({source})"


def _curve(data: dict[str, Any]) -> Table:
    rows = [
        [_epsilon(data, point["epsilon"]), percent(point), str(point["count"])]
        for point in data["curve"]
    ]
    other = data.get("reference") or {"curve": []}
    beside = {point["epsilon"]: percent(point) for point in other["curve"]}
    if beside:
        for row, point in zip(rows, data["curve"], strict=True):
            row.insert(2, beside.get(point["epsilon"], "-"))
    accuracy = "accuracy"
    if "judgements" in data["adaptive"]:
        accuracy += " (mean over draws)"
    title, count = "Accuracy against epsilon", data["curve"][0]["count"]
    if count < data["adaptive"]["count"]:
        # Another number than the headline's answers another question.
        title += f", on the first {count} images"
    header = ["epsilon", accuracy, *["reference"] * bool(beside), "images"]
    return title, header, rows


def _certified(data: dict[str, Any]) -> list[Table]:
    """The table of certified accuracy, if the model can be certified."""
    certified = data.get("certified")
    if certified is None:
        return []
    rows = [
        [f"{point['radius']:.4g}", percent(point), str(point["count"])]
        for point in certified["curve"]
    ]
    title = f"Certified accuracy against {certified['norm']} radius: "
    title += certified["method"]
    return [(title, ["radius", "correct under any attack", "images"], rows)]


def _corrupted(data: dict[str, Any]) -> list[Table]:
    """The table of accuracy with common corruptions, if it was measured."""
    values = data.get("corruptions")
    if values is None:
        return []
    measured = CorruptionReport.from_json(values)
    header, rows = measured.table()
    other = (data.get("reference") or {}).get("corruptions")
    if other is not None:
        reference = CorruptionReport.from_json(other)
        header = [*header, "mean of the reference"]
        rows = [
            [*row, percent(reference.mean_of(kind))]
            for kind, row in zip(measured.accuracies, rows, strict=True)
            if kind in reference.accuracies
        ]
    return [("Accuracy with common corruptions", header, rows)]


def _classes(data: dict[str, Any]) -> Table:
    rows = [
        [
            class_label(each["class"], data.get("class_names")),
            str(each["count"]),
            percent(each["clean"]),
            percent(each["adaptive"]),
        ]
        for each in data["per_class"]
    ]
    header = ["class", "images", "clean", "under all attacks"]
    return "Accuracy per class", header, rows


def _facts(data: dict[str, Any]) -> Table:
    run = data["run"]
    rows = [
        ["command", run.get("command", "")],
        ["seed", str(data["seed"])],
        ["budget", data["budget"]],
        ["threat model", _threat(data)],
        ["value range", f"{data['value_range'][0]:g} to {data['value_range'][1]:g}"],
        [
            "images",
            f"{data['images']['evaluated']} of {_known(data['images']['given'])} given",
        ],
        [
            "defences in the model",
            ", ".join(data["defences"]) or "none of this package",
        ],
        ["versions", ", ".join(f"{k} {v}" for k, v in data["versions"].items())],
        ["started", run.get("started", "")],
        ["duration", f"{run.get('seconds', 0):.0f} s"],
    ]
    return "How it was measured", ["", ""], rows


def _threat(data: dict[str, Any]) -> str:
    plain = f"{data['epsilon']:.4g}"
    label = _epsilon(data, data["epsilon"])
    both = f"{plain} ({label})" if "/" in label else plain
    return f"{data['norm']}, epsilon {both}"


def about(data: dict[str, Any]) -> list[tuple[str, str]]:
    """Returns what a report is about: names and values, as plain text.

    Args:
        data: The contents of `report.json`.
    """
    run = data["run"]
    model, images = run.get("model"), run.get("data")
    facts = []
    if model is not None:
        count = model["parameters"]
        size = "" if count is None else f" ({count:,} parameters)"
        facts.append(("model", (model["name"] or "unnamed") + size))
    if images is not None:
        shape = " x ".join(map(str, images["shape"]))
        facts.append(("data", f"{images['name'] or 'images'} ({shape})"))
    facts += [
        ("images", str(data["images"]["evaluated"])),
        ("attacker", _threat(data)),
        ("date", run.get("started", "").partition("T")[0] or "unknown"),
    ]
    return [(name, printable(value)) for name, value in facts]


def headlines(data: dict[str, Any]) -> list[str]:
    """Returns the headline and what is found under several norms, as plain text.

    Args:
        data: The contents of `report.json`.
    """
    texts = [data["headline"]]
    if "union" in data:
        texts.append(data["union"]["finding"])
    return [printable(named_classes(text, data.get("class_names"))) for text in texts]


def report_markdown(data: dict[str, Any]) -> str:
    """Returns the report as Markdown.

    Args:
        data: The contents of `report.json`.
    """
    words = plain_words(data)
    facts = [f"{name}: {value}" for name, value in about(data)]
    parts = [
        "# Robustness report",
        *map(escape_markdown, filter(None, ("; ".join(facts), *words.sentences))),
        *(f"**{escape_markdown(text).strip()}**" for text in headlines(data)),
    ]
    if data.get("corruptions") is not None:
        found = CorruptionReport.from_json(data["corruptions"]).finding
        parts.append(escape_markdown(found))
    for title, header, rows in report_tables(data):
        parts += [f"## {escape_markdown(title)}", markdown_table(header, rows)]
    return "\n\n".join(parts) + "\n"
