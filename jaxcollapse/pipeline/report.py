"""What a verb of the pipeline found: a value of numbers, tables and charts, as JSON and as a page of its own."""

import html
import io
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from jaxcollapse.paper_figures.support import style
from jaxcollapse.results import strict, versions


class Quantity(NamedTuple):
    """A number, and what it means.

    Attributes:
        name: its key in the JSON, such as effective_size.
        value: NaN where there is none.
        definition: what it is, in a sentence.
        unit: such as rows; empty where it has none.
        low: end of its 95% interval, NaN where there is none.
        high: the other end.
    """

    name: str
    value: float
    definition: str
    unit: str = ""
    low: float = float("nan")
    high: float = float("nan")


class Listing(NamedTuple):
    """A table, and what its columns mean.

    Attributes:
        name: its key in the JSON, such as silos.
        caption: what a row is.
        frame: of numbers and words; columns are keys of the JSON.
        definitions: of columns that need one, by name, with units.
    """

    name: str
    caption: str
    frame: pd.DataFrame
    definitions: Mapping[str, str] = {}


class Chart(NamedTuple):
    """A figure that a page shows.

    Attributes:
        name: such as diversity.
        caption: what it shows, with n, seeds and what bars and bands are.
        draw: makes the figure, under the style of all figures.
    """

    name: str
    caption: str
    draw: Callable[[], Figure]


class Report(NamedTuple):
    """All that a verb found.

    Attributes:
        verb: assess, select or monitor.
        verdict: what follows from it, a paragraph.
        quantities: numbers.
        listings: tables.
        charts: figures, drawn for a page alone.
        warnings: what makes the result doubtful, a sentence each.
        settings: everything that the numbers depend on, files with their digests.
        extra: what the JSON holds besides, by key.
        files: what is written with it.
    """

    verb: str
    verdict: str
    quantities: Sequence[Quantity] = ()
    listings: Sequence[Listing] = ()
    charts: Sequence[Chart] = ()
    warnings: Sequence[str] = ()
    settings: Mapping[str, Any] = {}
    extra: Mapping[str, Any] = {}
    files: Mapping[Path, Callable[[BinaryIO], Any]] = {}

    def find(self, name: str) -> Any:
        """Find a quantity, a listing or a chart by its name."""
        return next(found for found in (*self.quantities, *self.listings, *self.charts) if found.name == name)


def as_json(report: Report) -> dict[str, Any]:
    """Write a report as a tree of what JSON knows; what is not finite is null."""
    return strict(
        {
            "verb": report.verb,
            **report.extra,
            "verdict": report.verdict,
            "warnings": list(report.warnings),
            "quantities": {q.name: {k: v for k, v in q._asdict().items() if k != "name"} for q in report.quantities},
            "tables": {each.name: each.frame.to_dict("records") for each in report.listings},
            "settings": report.settings,
            "versions": versions(),
        }
    )


def as_text(report: Report) -> str:
    """Write a report for a terminal: verdict, warnings and numbers."""
    lines = [textwrap.fill(report.verdict, 100), ""]
    lines += [textwrap.fill(f"warning: {each}", 100, subsequent_indent="  ") for each in report.warnings]
    width = max((len(q.name) for q in report.quantities), default=0)
    for q in report.quantities:
        between = f" ({found})" if (found := _between(q.low, q.high)) else ""
        lines.append(f"{q.name.replace('_', ' '):{width}s}  {number(q.value)}{between} {q.unit}".rstrip())
    return "\n".join(lines) + "\n"


def as_page(report: Report) -> str:
    """Write a report as one HTML file: no scripts, nothing from the network, figures inside."""
    parts = [f"<p class=verdict>{html.escape(report.verdict)}</p>"]
    if report.warnings:
        items = "".join(f"<li>{html.escape(each)}</li>" for each in report.warnings)
        parts.append(f"<h2>Warnings</h2><ul class=warnings>{items}</ul>")
    if report.quantities:
        rows = [
            (_words(q.name), number(q.value), _between(q.low, q.high), q.unit, q.definition) for q in report.quantities
        ]
        parts += ["<h2>Numbers</h2>", _table(("", "value", "95% interval", "unit", "what it is"), rows)]
    for chart in report.charts:
        parts.append(f"<figure>{_svg(chart)}<figcaption>{html.escape(chart.caption)}</figcaption></figure>")
    for listing in report.listings:
        frame, meanings = listing.frame, listing.definitions
        rows = [[number(x) if isinstance(x, float) else str(x) for x in row] for row in frame.itertuples(index=False)]
        terms = "".join(f"<dt>{_words(k)}</dt><dd>{html.escape(v)}</dd>" for k, v in meanings.items())
        parts += [
            f"<h2>{html.escape(listing.caption)}</h2>",
            _table([_words(c) for c in frame.columns], rows),
            f"<dl>{terms}</dl>" * bool(terms),
        ]
    known = {**report.settings, **versions()}
    parts += ["<h2>How it was computed</h2>", _table(("", ""), [(_words(k), str(v)) for k, v in known.items()])]
    title = f"jaxcollapse {report.verb}"
    return _PAGE.format(title=title, body="\n".join(parts))


def number(x: float) -> str:
    """Write a number with three digits that tell something."""
    if not np.isfinite(x):
        return "\N{EN DASH}" if np.isnan(x) else ("∞" if x > 0 else "-∞")
    if x and not 1e-3 <= abs(x) < 1e6:
        return f"{x:.2e}"
    return f"{x:,.0f}" if abs(x) >= 1000 or x == int(x) else f"{x:.3g}"


def _between(low: float, high: float) -> str:
    return "" if np.isnan(low) and np.isnan(high) else f"{number(low)} to {number(high)}"


def _words(name: str) -> str:
    return html.escape(str(name).replace("_", " "))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = f"<thead><tr>{''.join(f'<th>{cell}</th>' for cell in head)}</tr></thead>" if any(head) else ""
    lines = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<div class=wide><table>{top}<tbody>{lines}</tbody></table></div>"


def _svg(chart: Chart) -> str:
    """Draw a chart as text inside the page, with names that no other chart has."""
    with mpl.rc_context(style.STYLE | {"font.family": "sans-serif", "svg.hashsalt": chart.name}):
        figure, file = chart.draw(), io.StringIO()
        share = min(1.0, figure.get_figwidth() / style.PAGE)
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
        plt.close(figure)
    drawn = file.getvalue()
    drawn = re.sub(r"(?s)<metadata>.*?</metadata>", "", drawn[drawn.index("<svg") :])
    drawn = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{chart.name}-", drawn)
    drawn = re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', rf'\1 style="width: {share:.0%}"', drawn, count=1)
    return drawn.replace("<svg", f'<svg role="img" aria-label="{html.escape(chart.caption, quote=True)}"', 1)


_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.45 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #111; }}
h1 {{ font-size: 1.4rem; }} h2 {{ font-size: 1.1rem; margin-top: 2rem; }}
.verdict {{ border-left: 4px solid #0072B2; padding: .5rem 1rem; background: #f3f7fa; }}
.warnings {{ border-left: 4px solid #D55E00; padding: .5rem 1rem .5rem 2rem; background: #fdf4ee; }}
.wide {{ overflow-x: auto; }} table {{ border-collapse: collapse; font-size: .9rem; }}
th, td {{ text-align: left; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #ddd; vertical-align: top; }}
figure {{ margin: 1.5rem 0; }} figure svg {{ height: auto; }}
figcaption, dl {{ font-size: .9rem; color: #444; }} dt {{ font-weight: 600; }} dd {{ margin: 0 0 .4rem 1rem; }}
@media print {{ body {{ margin: 0; max-width: none; font-size: 10pt; }} figure, tr {{ break-inside: avoid; }} }}
</style></head><body>
<h1>{title}</h1>
{body}
</body></html>
"""
