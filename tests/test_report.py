"""Reports: the same numbers as text, JSON and a page that needs nothing else."""

import html
import json
import re
import shutil
import subprocess

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from jaxcollapse.pipeline.report import Chart, Listing, Quantity, Report, as_json, as_page, as_text, number

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def drawn():
    figure, axes = plt.subplots()
    axes.plot([1, 2, 3], [1, 4, 9], marker="o")
    axes.set(xlabel="generation", ylabel="trace & <more>")
    return figure


REPORT = Report(
    verb="assess",
    verdict="A <b>verdict</b> & more.",
    quantities=[
        Quantity("effective_size", 1234.5, "rows that count", "rows", 1200.0, 1300.0),
        Quantity("half_life", np.inf, "until half is lost", "generations"),
        Quantity("missing", np.nan, "there is none"),
    ],
    listings=[
        Listing("silos", "One row a silo", pd.DataFrame({"file": ["a<b"], "recall": [0.5]}), {"recall": "of it"})
    ],
    charts=[Chart("one", "What it <shows>", drawn), Chart("two", "Again", drawn)],
    warnings=["watch <out>"],
    settings={"reference": "x.csv"},
    extra={"kept": [1, 2]},
)


def test_json_is_strict_and_holds_everything():
    found = json.loads(json.dumps(as_json(REPORT), allow_nan=False))
    assert found["verb"] == "assess"
    assert found["kept"] == [1, 2]
    size = found["quantities"]["effective_size"]
    assert size == {"value": 1234.5, "definition": "rows that count", "unit": "rows", "low": 1200.0, "high": 1300.0}
    assert found["quantities"]["half_life"]["value"] is None
    assert found["tables"]["silos"] == [{"file": "a<b", "recall": 0.5}]
    assert found["versions"]["jax"]


def test_text_holds_the_numbers_with_their_intervals():
    text = as_text(REPORT)
    assert "A <b>verdict</b> & more." in text
    assert re.search(r"effective size\s+1,234 \(1,200 to 1,300\) rows", text)
    assert "warning: watch <out>" in text


def test_numbers_are_short():
    written = [number(x) for x in (0.0, 1.0, 0.12345, 1234.5, 1e-5, 3e9, -0.5, np.inf, -np.inf, np.nan)]
    assert written == ["0", "1", "0.123", "1,234", "1.00e-05", "3.00e+09", "-0.5", "\N{INFINITY}", "-\N{INFINITY}", "–"]  # noqa: RUF001


def test_a_page_escapes_words_and_needs_nothing_else():
    page = as_page(REPORT)
    assert "A &lt;b&gt;verdict&lt;/b&gt; &amp; more." in page
    assert "<b>" not in page
    assert not re.findall(r"<(script|link|img|iframe)", page)
    assert not re.findall(r"(?:src|href)=\"(?!#)", page)
    assert len(page) < 300_000
    names = re.findall(r'\bid="([^"]+)"', page)
    assert len(names) == len(set(names))  # of the parts of two charts
    used = set(re.findall(r'href="#([^"]+)"', page)) | set(re.findall(r"url\(#([^)]+)\)", page))
    assert used
    assert used <= set(names)


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium to show a page in")
def test_a_browser_shows_the_page_and_prints_it(tmp_path):
    path = tmp_path / "report.html"
    path.write_text(as_page(REPORT))
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile"]
    shown = subprocess.run(
        [*command, "--dump-dom", path.as_uri()], capture_output=True, text=True, check=True, timeout=120
    )
    words = html.unescape(re.sub(r"<[^>]+>", "", shown.stdout))
    for expected in ("A <b>verdict</b> & more.", "effective size", "1,200 to 1,300", "watch <out>", "generation"):
        assert expected in words
    printed = tmp_path / "report.pdf"
    subprocess.run([*command, f"--print-to-pdf={printed}", path.as_uri()], check=True, timeout=120, capture_output=True)
    assert printed.read_bytes().startswith(b"%PDF")
