"""From result files to figures, each beside the table of the numbers that it shows."""

import importlib
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.transforms import Bbox

from jaxcollapse import results
from jaxcollapse.paper_figures.support import style

mpl.use("agg")


def draw(path: Path, out: Path, figures: Mapping[str, str]) -> Iterator[Path]:
    """Draw the figures of one result: those whose name begins with the experiment's.

    Args:
        path: of the result. A study's figures bear its own name in place of the experiment's.
        out: directory for NAME.png, NAME.pdf and NAME.csv.
        figures: modules to choose from, by name.

    Returns:
        The picture of each, once it is there.
    """
    data = results.load(path)
    experiment = data.attrs["experiment"]
    out.mkdir(parents=True, exist_ok=True)
    for name, module in figures.items():
        if name.startswith(experiment):
            place = out / name.replace(experiment, path.stem, 1)
            with mpl.rc_context(style.STYLE):
                figure, table = importlib.import_module(module).draw(data)
                width, height = figure.get_size_inches()
                sizes = style.sizes(data.attrs["configuration"])
                figure.text(0.99, 1, sizes, ha="right", va="bottom", fontsize=6)
                # Above, because legends outside go down with the lower edge.
                save = partial(figure.savefig, bbox_inches=Bbox.from_extents(0, 0, width, height + 0.15))
                results.write_atomic(place.with_suffix(".png"), partial(save, format="png"))
                undated = partial(save, format="pdf", metadata={"CreationDate": None})
                results.write_atomic(place.with_suffix(".pdf"), undated)
            plt.close(figure)
            save_table = partial(table.to_csv, index=False, float_format="%.6g")
            results.write_atomic(place.with_suffix(".csv"), save_table)
            yield place.with_suffix(".png")
