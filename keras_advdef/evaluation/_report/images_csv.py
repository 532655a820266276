"""images_csv: the results of an evaluation image by image, for any program."""

import csv
import io
from collections import Counter
from collections.abc import Sequence

import numpy as np

from keras_advdef.evaluation._measure.measurements import Record
from keras_advdef.evaluation._report.findings import Findings
from keras_advdef.evaluation._request.request import Request


def images_csv(evaluated: Sequence[tuple[Request, Findings]]) -> str:
    """Returns a table with a header and one line for each image.

    The columns are `index`; `label`; `clean` and one for each attack: 1 if the image is
    classified correctly and 0 if not, for a random model the share of the draws, empty
    if the attack did not get the image; `norm` of the smallest perturbation found,
    "inf" if none was; `certified`, the l2 radius within which no perturbation changes
    the class; and `certified within epsilon`, 1 if none in linf does. Further norms add
    columns of attacks whose names start with the norm.

    Args:
        evaluated: The request and the results for each norm, the main one first.
    """
    (_, findings), *further = evaluated
    certified = findings.measured.certified
    columns = {
        "index": [str(index) for index in range(len(findings.labels))],
        "label": [str(label) for label in findings.labels],
        "clean": _numbers(1.0 - findings.clean),
        **_attacked(findings),
        "norm": _norms(findings),
    }
    if certified is not None:
        radii = np.full(len(findings.labels), np.nan)
        radii[: len(certified.by_image)] = certified.by_image
        columns["certified"] = _numbers(radii)
    if findings.measured.within is not None:
        proved = findings.measured.within.by_image
        columns["certified within epsilon"] = _numbers(proved.astype(float))
    for other, found in further:
        more = _attacked(found).items()
        columns |= {f"{other.norm}: {name}": values for name, values in more}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue()


def _attacked(findings: Findings) -> dict[str, list[str]]:
    """The columns of the attacks."""
    columns = {}
    for name, key in _names(findings.records):
        wrong = findings.images.wrong.get(key, np.full(len(findings.labels), -1))
        right = 1.0 - wrong / findings.images.draws
        columns[name] = _numbers(np.where(wrong < 0, np.nan, right))
    return columns


def _norms(findings: Findings) -> list[str]:
    norms, smallest = np.full(len(findings.labels), np.nan), findings.measured.smallest
    if smallest is not None:
        norms[smallest.rows] = smallest.norms
    return _numbers(norms)


def _names(records: Sequence[Record]) -> list[tuple[str, str]]:
    """Returns a name of its own for each attack, with the key of its stage."""
    times = Counter(record["name"] for record in records)
    return [
        (
            f"{each['name']} ({each['key']})"
            if times[each["name"]] > 1
            else str(each["name"]),
            str(each["key"]),
        )
        for each in records
    ]


def _numbers(values: np.ndarray) -> list[str]:
    """Returns numbers as text, empty for NaN."""
    return ["" if np.isnan(value) else f"{value:.6g}" for value in values]
