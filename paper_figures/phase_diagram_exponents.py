"""Final exponents of the trace over budget and bias, and rates under replace, under the mean field's contour lines."""

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from jaxcollapse.paper_figures.phase_diagram import maps, octaves


def draw(data: xr.Dataset) -> tuple[Figure, pd.DataFrame]:
    """Draw rates of decay a generation under replace, and exponents of power laws elsewhere."""
    shown = data[["exponent", "exponent_mean_field"]].sel(num_kept=data.num_kept.max()).to_array()
    scales = {}
    for workflow in data.workflow.values:
        geometric = workflow == "replace"
        here = shown.where((shown.workflow == "replace") == geometric)
        low, high = float(here.min()), float(here.max())
        if geometric:
            scales[workflow] = "rate, 1 / generation", octaves(low, high)
        else:  # zero, where fresh data end, lies within a colour
            fifths = np.arange(np.floor(5 * low - 0.5), np.ceil(5 * high - 0.5) + 1)
            scales[workflow] = "exponent", 0.1 + fifths / 5
    return maps(data, "exponent", scales)
