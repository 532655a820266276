"""The page is self-contained, well formed, and fits a phone."""

import html.parser
import re
import shutil
import subprocess

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from keras_advdef.evaluation._report.report_html import report_html
from keras_advdef.evaluation._report.report_markdown import report_tables
from tests.support.hostile_text import HOSTILE_TEXT
from tests.support.hostile_values import with_text

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
_VOID = {"meta", "img"}


@pytest.fixture
def page(report):
    return report.to_html()


class _Checker(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.sources, self.tags, self.text = [], [], [], []

    def handle_data(self, data):
        self.text.append(data.strip())

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, attributes))
        self.sources += [v for k, v in attributes if k in ("src", "href")]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_page_is_well_formed_and_alone(page):
    checker = _Checker()
    checker.feed(page)
    assert checker.open == []
    assert len(checker.sources) == 1
    assert checker.sources[0].startswith("data:image/png;base64,")
    assert "<script" not in page
    assert not re.search(r"https?:|@import|url\(", page)
    assert 'name="viewport"' in page


@pytest.mark.parametrize("text", HOSTILE_TEXT)
def test_text_stays_text(text, report_values):
    def tags_of(data):
        checker = _Checker()
        checker.feed(report_html(data, Figure(figsize=(0.1, 0.1))))
        return checker.tags, "\n".join(checker.text)

    data = with_text(report_values, text)
    tags, shown = tags_of(data)
    assert tags == tags_of(with_text(report_values, "x"))[0]
    for _, _, rows in report_tables(data):
        assert all(cell.strip() in shown for row in rows for cell in row)


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
    # The banner's green edge is on the left; text and picture span the page.
    edge = np.abs(pixels - [0x2A, 0x7D, 0x4F]).sum(axis=2) < 30
    assert edge[:400, : width // 4].any()
    dark = (pixels.sum(axis=2) < 200).any(axis=0)
    assert dark[: width // 4].any()
    assert dark[width // 2 :].any()
    # Nothing is cut off at the right.
    assert not dark[-5:].any()
