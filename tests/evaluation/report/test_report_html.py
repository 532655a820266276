"""The page is self-contained, well formed, and fits a phone."""

import html.parser
import re
import shutil
import subprocess

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from keras_advdef.evaluation._report.report_html import Pictures, report_html
from keras_advdef.evaluation._report.report_markdown import report_tables
from tests.support.hostile_text import HOSTILE_TEXT
from tests.support.hostile_values import with_text
from tests.support.report_values import corruptions

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
_VOID = {"meta", "img", "source"}


@pytest.fixture
def page(report):
    return report.to_html()


def drawn(data):
    """The page with pictures of one pixel."""
    tiny = Figure(figsize=(0.02, 0.02))
    return report_html(data, Pictures(wide=tiny, narrow=tiny))


class _Checker(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.sources, self.tags, self.text = [], [], [], []

    def handle_data(self, data):
        self.text.append(data)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, attributes))
        self.sources += [v for k, v in attributes if k in ("src", "srcset", "href")]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_page_is_well_formed_and_alone(page, report):
    checker = _Checker()
    checker.feed(page)
    assert checker.open == []
    pictures = [each for each in checker.sources if not each.startswith("#term-")]
    # Two curves; the example and the gallery clean, perturbed and adversarial.
    assert len(pictures) == 2 + 3 * (1 + len(report.gallery.clean))
    assert all(each.startswith("data:image/png;base64,") for each in pictures)
    # Each term that is explained where it stands is in the glossary, too.
    terms = {each[1:] for each in checker.sources if each not in pictures}
    names = {value for _, each in checker.tags for key, value in each if key == "id"}
    assert terms
    assert terms == names
    assert "<script" not in page
    assert not re.search(r"https?:|@import|url\(", page)
    assert 'name="viewport"' in page


def test_corruptions_have_a_picture(report_values):
    report_values["corruptions"] = corruptions()
    tiny = Figure(figsize=(0.02, 0.02))
    page = report_html(
        report_values, Pictures(wide=tiny, narrow=tiny, corruptions=tiny)
    )
    checker = _Checker()
    checker.feed(page)
    pictures = [each for each in checker.sources if each.startswith("data:")]
    assert len(pictures) == 3
    assert "lowest with Gaussian noise of severity 5: 20.0 %" in page
    # The table alone, where there is no picture.
    table = re.sub(r"</?a[^>]*>", "", drawn(report_values))
    assert "<h2>Accuracy with common corruptions</h2>" in table
    assert "lowest with" not in drawn(report_values)


@pytest.mark.parametrize("text", HOSTILE_TEXT)
def test_text_stays_text(text, report_values):
    def tags_of(data):
        checker = _Checker()
        checker.feed(drawn(data))
        return checker.tags, "".join(checker.text)

    data = with_text(report_values, text)
    tags, shown = tags_of(data)
    assert tags == tags_of(with_text(report_values, "x"))[0]
    for _, _, rows in report_tables(data):
        assert all(cell.strip() in shown for row in rows for cell in row)


def test_says_what_it_is_about(report_values):
    page = drawn(report_values)
    top = page[: page.index('class="result"')]
    assert "<dt>model</dt><dd>net.keras (1,200 parameters)</dd>" in top
    assert "<dt>data</dt><dd>the digits (8 x 8 x 1)</dd>" in top
    assert "<dt>date</dt><dd>2026-01-01</dd>" in top
    plain = re.sub(r"<a [^>]*>|</a>", "", top)
    assert "<dt>attacker</dt><dd>linf, epsilon 0.1 (25.5/255)</dd>" in plain


def test_bar_shows_all_images(report_values):
    page = drawn(report_values)
    # 9 of 10 are right, 3 under attack.
    for style, share in (("kept", 30.0), ("lost", 60.0), ("wrong", 10.0)):
        assert f'<span class="{style}" style="flex: {share}">' in page
    for text in ("3 right, whatever", "6 right, but some", "1 wrong without"):
        assert text in page
    # The reference has a bar beside.
    for text in ("0 right, whatever", "9 right, but some"):
        assert text in page
    report_values["reference"] = None
    assert drawn(report_values).count('<div class="bar"') == 1


def test_colour_is_about_trust_alone(report_values):
    assert 'class="trust doubt"' in drawn(report_values)
    for check in report_values["checks"]:
        check["passed"] = True
    page = drawn(report_values)
    assert 'class="trust"' in page
    assert "green" not in page


def test_long_tables_are_folded(report_values):
    assert "<details>" not in drawn(report_values)
    (row,) = report_values["per_class"]
    report_values["per_class"] = [{**row, "class": each} for each in range(26)]
    page = drawn(report_values)
    assert page.count("<details><summary>26 rows</summary>") == 1
    assert page.count("</details>") == 1


@pytest.mark.slow
@pytest.mark.skipif(
    not any(map(shutil.which, _BROWSERS)), reason="needs Chromium on the path"
)
@pytest.mark.parametrize("width", [500, 1100])
def test_page_is_shown_by_a_browser(page, width, tmp_path):
    browser = next(filter(None, map(shutil.which, _BROWSERS)))
    source, shot = tmp_path / "report.html", tmp_path / "shot.png"
    source.write_text(page, encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    subprocess.run(
        [
            browser,
            *flags,
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--window-size={width},1200",
            f"--screenshot={shot}",
            source.as_uri(),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )
    pixels = np.asarray(Image.open(shot).convert("RGB")).astype(int)
    assert pixels.shape[1] == width
    # The blue edge of the result is on the left; text and picture span the page.
    edge = np.abs(pixels - [0x2F, 0x5D, 0x8A]).sum(axis=2) < 30
    assert edge[:600, : width // 4].any()
    dark = (pixels.sum(axis=2) < 200).any(axis=0)
    assert dark[: width // 4].any()
    assert dark[width // 2 :].any()
    # Nothing is cut off at the right.
    assert not dark[-5:].any()
