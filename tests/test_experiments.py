"""Every experiment, study and figure through the command, in this process."""

import dataclasses
import importlib
import re
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib import pyplot as plt

import jaxcollapse
from jaxcollapse import command, results
from jaxcollapse.command import EXPERIMENTS, FIGURES, GROUPS, RUNNABLE, STUDIES, main, parse, preset_of
from jaxcollapse.paper_figures.support import drawing

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _no_cache_of_the_user(monkeypatch):
    monkeypatch.setattr(command, "keep_programs", lambda directory: None)


@pytest.fixture(autouse=True)
def _programs_are_dropped():
    yield
    jax.clear_caches()


@pytest.fixture
def displays(monkeypatch):
    """List the displays that the command makes."""
    made = []
    monkeypatch.setattr(command, "Display", lambda stream, make=command.Display: made.append(make(stream)) or made[-1])
    return made


def series_of(figure):
    """List what each panel of a figure shows: the coordinates of every line and cloud of points, or the pixels."""
    for axes in (axes for axes in figure.axes if axes.get_label() != "<colorbar>"):
        lines = [np.asarray(line.get_xydata(), float).T for line in axes.lines]
        clouds = [np.asarray(collection.get_offsets(), float).T for collection in axes.collections]
        images = [np.asarray(image.get_array(), float).reshape(1, -1) for image in axes.images]
        yield [series for series in (*lines, *clouds, *images) if np.isfinite(series).any()]


def within(shown, numbers):
    """Tell whether all that is shown is among some numbers."""
    shown, numbers = (x[np.isfinite(x)] for x in (shown, numbers))
    return np.allclose(shown, [numbers[np.abs(numbers - x).argmin()] for x in shown], rtol=1e-4)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_runs_and_its_figures_show_its_numbers(name, tmp_path, displays):
    out, figures = tmp_path / "out", tmp_path / "figures"
    place = ["--out", str(out), "--figures", str(figures)]
    assert main(["run", name, "--preset", "smoke", *place]) == 0
    assert [path.name for path in out.iterdir()] == [f"{name}.nc"]
    assert displays[0].num_finished == displays[0].num_parts > 0
    data, module = results.load(out / f"{name}.nc"), importlib.import_module(RUNNABLE[name])
    smoke = module.Config(**module.PRESETS["smoke"])
    assert data.attrs["configuration"] == results.strict(dataclasses.asdict(smoke))
    assert data.attrs["summary"]
    assert data.attrs["experiment"] == name
    drawn, kinds = [figure for figure in FIGURES if figure.startswith(name)], ("png", "pdf", "csv")
    assert {path.name for path in figures.iterdir()} == {f"{figure}.{kind}" for figure in drawn for kind in kinds}
    for figure in drawn:
        picture, table = importlib.import_module(FIGURES[figure]).draw(data)
        stored = pd.read_csv(figures / f"{figure}.csv")
        assert stored.shape == table.shape
        numbers = np.unique(stored.select_dtypes("number"))
        for panel in series_of(picture):
            assert any(within(coordinate, numbers) for series in panel for coordinate in series), figure
        assert any(axes.get_xlabel() or axes.get_title() for axes in picture.axes) or picture.get_suptitle()
        plt.close(picture)


def said(capsys, *arguments):
    """Run the command; its status, and what it wrote to either stream."""
    status = main(arguments)
    return status, *capsys.readouterr()


@pytest.mark.parametrize("name", STUDIES)
def test_studies_are_experiments_in_another_setting_with_figures_of_their_own(name, tmp_path):
    study = importlib.import_module(STUDIES[name])
    experiment = study.run.__module__.rpartition(".")[2]
    assert study.Config is importlib.import_module(EXPERIMENTS[experiment]).Config
    settings = importlib.import_module(EXPERIMENTS[experiment]).PRESETS
    assert all(study.PRESETS[preset] != settings[preset] for preset in settings)
    dataset = xr.Dataset({"excess": ("round", [0.5, 0.1])}, attrs={"experiment": "geodesic", "configuration": {}})
    results.save(tmp_path / f"{name}.nc", dataset)
    figures = {"geodesic_more": "json", "power_law": "json"}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("json.draw", lambda data: (plt.figure(), data.to_dataframe()), raising=False)
        assert list(drawing.draw(tmp_path / f"{name}.nc", tmp_path, figures)) == [tmp_path / f"{name}_more.png"]


def test_list_names_everything_with_a_line_each(capsys):
    status, out, _ = said(capsys, "list")
    sections = re.findall(r"^(\w+):\n((?:  \w+ +.*\n)+)", out, re.MULTILINE)
    listed = {title: re.findall(r"^  (\w+) +\S.*\w", lines, re.MULTILINE) for title, lines in sections}
    assert status == 0
    assert listed == {"experiments": [*EXPERIMENTS], "studies": [*STUDIES], "figures": [*FIGURES]}
    assert {path.stem for path in (ROOT / "experiments").glob("[!_]*.py")} == set(EXPERIMENTS)
    assert {path.stem for path in (ROOT / "experiments" / "studies").glob("[!_]*.py")} == set(STUDIES)
    assert {path.stem for path in (ROOT / "paper_figures").glob("[!_]*.py")} == set(FIGURES)


def test_version(capsys):
    assert said(capsys, "--version") == (0, f"jaxcollapse {jaxcollapse.__version__}\n", "")


@pytest.mark.parametrize("name", RUNNABLE)
def test_presets_are_scales_and_every_field_is_a_flag(name, capsys):
    module = importlib.import_module(RUNNABLE[name])
    assert [*module.PRESETS] == ["smoke", "quick", "paper"]
    assert len({command.default(module, preset) for preset in module.PRESETS}) == 3
    status, out, _ = said(capsys, "run", name, "--help")
    assert status == 0
    assert f"usage: jaxcollapse run {name} " in out
    assert "--preset {smoke,quick,paper}" in out
    for field in dataclasses.fields(module.Config):
        assert f"--{field.name.replace('_', '-')}" in out


@pytest.mark.parametrize("written", [["--preset", "paper"], ["--preset=paper"]])
def test_flags_override_the_preset_wherever_it_stands(written):
    for arguments in ([*written, "--num-kept", "7"], ["--num-kept", "7", *written]):
        assert preset_of(arguments) == "paper"
        request = parse(["run", "gaussian_collapse", *arguments])
        assert (request.experiment.num_kept, request.experiment.num_generations) == (7, 300)
        assert request.run.preset == "paper"


def test_groups_run_in_one_process_each_with_its_figures(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(GROUPS, "all", ("geodesic", "barycenter_convergence"))
    arguments = ["run", "all", "--preset", "smoke", "--out", str(tmp_path), "--figures", str(tmp_path)]
    status, _, err = said(capsys, *arguments)
    assert status == 0
    assert {path.stem for path in tmp_path.iterdir()} == set(GROUPS["all"])
    assert len(list(tmp_path.iterdir())) == 8
    order = re.findall(r"(\w+): \S+\.(nc|png)$", err, re.MULTILINE)
    assert order == [(name, kind) for name in GROUPS["all"] for kind in ("nc", "png")]
    status, _, err = said(capsys, *arguments)
    assert (status, err.count("is there already")) == (0, 2)


def test_figures_are_drawn_again_from_results_alone(tmp_path, capsys):
    assert main(["run", "geodesic", "--preset", "smoke", "--out", str(tmp_path), "--figures", str(tmp_path / "a")]) == 0
    status, _, err = said(capsys, "figure", "geodesic", "--results", str(tmp_path), "--out", str(tmp_path / "b"))
    assert status == 0
    assert err.endswith(f"{tmp_path / 'b' / 'geodesic.png'}\n")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("run gaussian_collapse --budget 1.5", "gaussian_collapse: --budget = 1.5: must be in [1e-06, 1]"),
        ("run gaussian_collapse --num-kept 5", "--num-kept = 5: a Gaussian in 10 dimensions needs at least 12 samples"),
        ("run gaussian_collapse --num-generations 0", "--num-generations = 0: must be at least 1"),
        ("run gaussian_collapse --num-kept many", "Error parsing --num-kept: many: must be a whole number; "),
        ("run gaussian_collapse --seeds", "gaussian_collapse: --seeds: must have a value at least"),
        ("run gaussian_collapse --budgets 1", "Unrecognized options: --budgets, 1; "),
        ("run siloed_images --features os:", "--features = 'os:': must be pca, classifier or MODULE:FUNCTION"),
        ("run silo_geometry --features classifier", "--features = 'classifier': must be pca, or MODULE:FUNCTION: no"),
        ("run gaussian_collapse --out README.md/below", "Not a directory"),
        ("run gausian_collapse", "experiment 'gausian_collapse' is not known"),
        ("run", "name experiments or figures, or all: `jaxcollapse list` shows them"),
        ("figure", "name experiments or figures, or all: `jaxcollapse list` shows them"),
        ("run geodesic --preset smok", "Expected one of ('smoke', 'quick', 'paper')"),
        ("run two_dimensional --verifiers pooledd", "invalid choice 'pooledd'"),
        ("figure all --results nowhere", "nowhere holds no results of all: `jaxcollapse run` makes them"),
        ("figure geodesic --results tests", "tests holds no results of geodesic"),
        ("figure geodesics", "invalid choice 'geodesics'"),
    ],
)
def test_bad_input_is_said_with_status_2(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    place = [] if "--out" in arguments or "run g" not in arguments else ["--out", str(tmp_path / "out")]
    status, out, err = said(capsys, *arguments.split(), *place)
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_completion_knows_experiments_and_their_flags(capsys):
    status, out, _ = said(capsys, "--tyro-print-completion", "bash")
    assert status == 0
    for word in (*RUNNABLE, "--num-replicates", "--results"):
        assert word in out


def test_figure_draws_the_means_of_its_results():
    from jaxcollapse.paper_figures import gaussian_collapse

    rng = np.random.default_rng(0)
    dims = {"setting": ["replace", "accumulate+select"], "seed": range(4), "generation": range(3)}
    dims |= {"source": ["simulation", "theory"]}
    values = rng.uniform(0.1, 1, (2, 2, 4, 3, 2))
    data = xr.Dataset({name: ([*dims], v) for name, v in zip(("trace_ratio", "mean_error"), values, strict=True)}, dims)
    figure, drawn = gaussian_collapse.draw(data)
    expected = values[0, 0, :, 1:, 0].mean(axis=0)
    lines = [line.get_ydata() for line in figure.axes[0].lines]
    assert any(len(y) == 2 and np.allclose(y, expected) for y in lines)
    rows = drawn[(drawn.setting == "replace") & (drawn.source == "simulation") & (drawn.metric == "trace_ratio")]
    np.testing.assert_allclose(rows["mean"], expected)
    plt.close(figure)
