"""Final exponents of the trace over budget and bias, and rates under replace, under the theory's contour lines."""

import pandas as pd
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxcollapse.paper_figures.phase_diagram import maps


def draw(data: xr.Dataset) -> tuple[Figure, pd.DataFrame]:
    """Draw rates of decay a generation under replace, and exponents of power laws elsewhere."""
    shown = data[["exponent", "exponent_mean_field"]].sel(num_kept=data.num_kept.max()).to_array()
    geometric = data.workflow == "replace"
    rates, powers = (
        MaxNLocator(8).tick_values(float(values.min()), float(values.max()))
        for values in (shown.where(geometric), shown.where(~geometric))
    )
    names = data.workflow.values
    scales = {w: ("rate, 1 / generation", rates) if w == "replace" else ("exponent", powers) for w in names}
    return maps(data, "exponent", scales)
