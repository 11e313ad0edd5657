"""Figures: what tells lines apart, bands on logarithmic axes, sizes stated, and points that stand alone."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb

from jaxcollapse.paper_figures import (
    phase_diagram,
    proxy_gaussian,
    silo_geometry,
    siloed_images_samples,
    siloed_images_table,
    two_dimensional,
)
from jaxcollapse.paper_figures.support import style
from jaxcollapse.verifiers import VERIFIERS


@pytest.fixture(autouse=True)
def _figures_are_closed():
    yield
    plt.close("all")


@pytest.mark.parametrize("looks", [style.VERIFIERS, style.WORKFLOWS, dict(enumerate(style.SERIES))], ids=len)
def test_looks_differ_without_colour(looks):
    marks = [(look["marker"], look.get("fillstyle")) for look in looks.values()]
    assert len(set(marks)) == len(marks)


def test_every_verifier_has_a_look_dark_enough_to_see():
    """Contrast with white paper: relative luminance as WCAG defines it, ratio at least 2."""
    assert set(style.VERIFIERS) == set(VERIFIERS)
    for look in style.VERIFIERS.values():
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(look["color"])]
        assert 1.05 / (np.dot([0.2126, 0.7152, 0.0722], linear) + 0.05) >= 2


@pytest.mark.parametrize(("scale", "expected"), [("linear", [-1, 3]), ("log", [np.exp(-2), np.exp(2)])])
def test_band_is_of_the_axis(scale, expected):
    _, axes = plt.subplots()
    axes.set_yscale(scale)
    table = pd.DataFrame({"generation": [1, 2], "mean": [1.0, 1.0], "error": [1.0, 1.0]})
    style.band(axes, table, "mean", "error", color="black")
    (area,) = axes.collections
    np.testing.assert_allclose(sorted(set(area.get_paths()[0].vertices[:, 1])), expected)


def test_sizes_are_said():
    configuration = {"seed": 0, "num_kept": [100, 300], "num_silos": 10, "seeds": [42, 7, 9], "budget": 0.5}
    assert style.sizes(configuration) == "n = 100, 300, silos: 10, instances: 3"
    assert style.sizes({"num_points": 300, "num_seeds": 5}) == "n = 300, seeds: 5"


def test_bytes_that_vary_by_seed_are_one_point():
    dims = {"verifier": ["random", "tilt"], "seed": [0, 1], "generation": [0, 1, 2]}
    values = np.random.default_rng(0).uniform(1, 2, (2, 2, 2, 3))
    data = xr.Dataset({q: ([*dims], v) for q, v in zip(("trace_ratio", "bures_w2"), values, strict=True)}, dims)
    sent = np.array([[[0, 0, 0], [0, 0, 0]], [[10, 50, 100], [10, 50, 300]]])
    figure, drawn = proxy_gaussian.draw(data.assign(bytes=([*dims], sent)))
    points = [line.get_xydata() for line in figure.axes[1].lines if line.get_marker() not in ("_", "|")]
    np.testing.assert_allclose(points, [[(x, values[1, v, :, 2].mean())] for v, x in enumerate((0, 200))])
    assert len(drawn) == 3 * 2 * 3


def test_point_of_the_map_stands_apart_on_a_dial():
    dims = {"setting": ["10", "20", "40"], "classes": [1], "budget": [0.25], "verifier": ["random", "tilt"]}
    dims |= {"seed": [0, 1]}
    gain = np.random.default_rng(0).normal(size=(3, 1, 1, 2, 2))
    varied = {"num_silos": [10, 20, 40], "num_train": [500] * 3, "num_iterations": [20] * 3}
    data = xr.Dataset({"gain": ([*dims], gain)}, dims).assign_coords({k: ("setting", v) for k, v in varied.items()})
    figure, _ = silo_geometry.draw(data)
    (axes,) = [axes for axes in figure.axes if axes.get_xlabel() == style.label("silos $K$")]
    lines = [line for line in axes.lines if line.get_marker() == "d"]
    assert [list(line.get_xdata()) for line in lines] == [[20, 40], [10]]
    assert [line.get_fillstyle() for line in lines] == ["full", "none"]


def test_difference_of_one_seed_is_drawn_without_interval():
    scores, selections = [*siloed_images_table.QUANTITIES], ["random", "single_silo", "single_silo, any"]
    dims = {"split": ["iid"], "generator": ["unet"], "selection": selections, "score": scores}
    values = np.random.default_rng(0).uniform(1, 2, (1, 1, 3, 5))
    arrays = {"mean": values, "difference_mean": values, "half": np.inf * values, "difference_half": np.inf * values}
    figure, _ = siloed_images_table.draw(xr.Dataset({k: ([*dims], v) for k, v in arrays.items()}, dims))
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["single silo", "single silo (mean over silos)"]
    for axes, drawn in zip(figure.axes, values[0, 0, 1:].T, strict=True):
        points = [line.get_xdata() for line in axes.lines if line.get_marker() == "o"]
        np.testing.assert_array_equal(np.concatenate(points), drawn)


def test_real_images_and_the_first_model_head_the_samples():
    dims = {"split": ["iid"], "generator": ["unet"], "verifier": ["random", "tilt"], "generation": [0, 1, 2]}
    shape = (1, 1, 2, 3, 6, 4)
    shown = np.random.default_rng(0).integers(0, 256, shape)
    real = np.random.default_rng(1).integers(0, 256, (6, 4))
    data = xr.Dataset({"shown": ([*dims, "image", "pixel"], shown), "real_images": (["image", "pixel"], real)}, dims)
    figure, table = siloed_images_samples.draw(data)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["real images", "first model", "$t = 1$", "$t = 2$", "", ""]
    expected = real, *shown[0, 0, [0, 0, 0, 1, 1], [0, 1, 2, 1, 2]]
    for axes, images in zip(figure.axes, expected, strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), siloed_images_samples.strip(images))
    rows = table[table.verifier == "real images"]
    np.testing.assert_array_equal(rows[[f"p{i}" for i in range(4)]], real)


def test_true_shape_lies_behind_the_clouds():
    dims = {"dataset": ["moons"], "generator": ["diffusion"], "verifier": ["random"], "seed": [0], "generation": [0, 1]}
    rng = np.random.default_rng(0)
    scores = {name: ([*dims], rng.uniform(size=(1, 1, 1, 1, 2))) for name in ("covered", "smallest_share", "entropy")}
    points, curve = rng.uniform(-1, 1, (1, 1, 1, 1, 2, 5, 2)), rng.uniform(-1, 1, (1, 7, 2))
    clouds = {"points": ([*dims, "sample", "axis"], points), "curve": (["dataset", "position", "axis"], curve)}
    figure, _ = two_dimensional.draw(xr.Dataset(scores | clouds, dims | {"axis": ["x", "y"]}))
    for axes, generation in zip(figure.axes, (0, 1, 1), strict=True):
        behind, before = axes.collections
        np.testing.assert_allclose(behind.get_offsets(), curve[0])
        np.testing.assert_allclose(before.get_offsets(), points[0, 0, 0, 0, generation])


def test_phase_diagram_marks_cells_that_theory_misses_and_those_without_a_half_life():
    dims = {"dim": [2, 5], "num_kept": [10, 30], "budget": [0.1, 0.2, 0.5], "bias": [0.0, 2.0], "workflow": ["replace"]}
    simulated = np.random.default_rng(0).uniform(1, 9, (2, 2, 3, 2, 1))
    finite_n = simulated + 0.39
    finite_n[1, 1, 2, 0], finite_n[0, 1, 1, 1], simulated[0, 1, 0, 1] = simulated[1, 1, 2, 0] - 0.41, np.nan, np.nan
    values = {"": simulated, "_error": 0.1 + 0 * simulated, "_mean_field": simulated + 0.5, "_finite_n": finite_n}
    of = {
        "quantity": ["half_life"],
        "theory": ["mean_field", "finite_n"],
        "workflow": ["replace"],
        "num_kept": [10, 30],
    }
    shares = np.random.default_rng(1).uniform(size=(3, 1, 2, 1, 2))
    names = ("within_2", "within_4", "median_difference")
    data = xr.Dataset({f"half_life{k}": ([*dims], v) for k, v in values.items()}, dims | of)
    data = data.assign({name: ([*of], each) for name, each in zip(names, shares, strict=True)})
    figure, table = phase_diagram.draw(data.assign_attrs(configuration={"num_generations": 16}))
    maps = [axes for axes in figure.axes if axes.images and axes.get_label() != "<colorbar>"]
    for axes, shown, crosses in zip(maps, simulated[:, 1, ..., 0], ([[1, 1]], [[2, 0]]), strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array().filled(np.nan), shown.T)
        (marked,) = [line for line in axes.lines if line.get_marker() == "x"]
        np.testing.assert_array_equal(marked.get_xydata(), crosses)
        assert axes.patch.get_hatch()
    lines = [line.get_ydata() for axes in figure.axes for line in axes.lines if line.get_marker() == "v"]
    np.testing.assert_array_equal(lines, shares[0, 0, :, 0])
    assert len(table) == simulated.size + 4
