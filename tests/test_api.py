import difflib

from tests.golden.refresh import API, api_text


def test_api_is_the_golden_one():
    golden, now = API.read_text(encoding="utf-8"), api_text()
    difference = "\n".join(
        difflib.unified_diff(
            golden.splitlines(), now.splitlines(), "golden", "now", lineterm="", n=0
        )
    )
    assert golden == now, (
        "The public names or their arguments have changed. If that is on purpose, run "
        "`python -m tests.golden.refresh` and add a line to CHANGELOG.md.\n"
        f"{difference}"
    )


def test_lines_are_sorted_and_free_of_addresses():
    lines = api_text().splitlines()
    assert lines == sorted(set(lines))
    assert not [line for line in lines if " at 0x" in line]
    assert any(line.startswith("losses.Margin(") for line in lines)
