"""Experiments through their command lines: outputs, figures, bad input, interruption."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from experiments import common
from experiments.common import Output, Runner, Settings
from jaxcollapse import Moments, Run, build_collapse, record_model, seeds, sizes, top_of_gaussian
from jaxcollapse.generators import gaussian
from jaxcollapse.memories import moments_memory
from jaxcollapse.metrics import trace_ratio
from jaxcollapse.targets import isotropic_target
from jaxcollapse.workflows import accumulate

ROOT = Path(__file__).parents[1]
COLUMNS = {
    "gaussian_collapse": [
        "setting", "num_kept", "budget", "dim", "seed", "generation",
        "trace_ratio", "mean_error", "target_distance", "bures_w2", "source",
    ],
    "power_law": [
        "target", "dim", "budget", "num_kept", "psi", "psi_finite",
        "generation", "slope", "slope_low", "slope_high", "slope_mean_field",
    ],
    "finite_n": ["quantity", "instance", "num_kept", "simulation", "standard_error", "theory", "generation"],
    "silo_digits": [
        "workflow", "split", "verifier", "seed", "generation",
        "trace_ratio", "mean_error", "bures_w2", "effective_rank", "target_distance", "source",
    ],
    "calibrated_gradient": [
        "epsilon", "tau", "size", "point", "predicted", "finite_difference", "marginal_error",
    ],
    "geodesic": [
        "seed", "tau", "round", "to_pool", "to_silo", "excess", "potential_slope", "potential_correlation",
    ],
    "barycenter_convergence": ["seed", "epsilon", "step", "round", "to_central", "to_gaussian", "floor"],
    "proxy_gaussian": ["verifier", "seed", "generation", "trace_ratio", "mean_error", "bures_w2", "bytes"],
    "disclosure": ["dim", "attack", "epsilon", "seed", "distance", "share_recovered", "exposure"],
    "discrete_tails": ["workflow", "verifier", "seed", "generation", "symbols", "lost_mass", "source"],
    "non_gaussian": [
        "family", "setting", "num_kept", "budget", "seed", "generation",
        "dispersion_ratio", "sliced_w", "min_component_weight", "component_entropy", "dispersion_theory",
    ],
    "two_dimensional": [
        "dataset", "generator", "verifier", "seed", "generation", "covered", "smallest_share", "entropy", "x", "y",
    ],
    "siloed_images": [
        "split", "generator", "verifier", "seed", "silo", "generation", "frechet", "frechet_classifier", "precision",
        "recall", "density", "coverage", "trace_ratio", "vendi", "class_entropy", "smallest_class",
        "verifier_silo_recall", "least_silo_recall",
    ],
    "silo_geometry": [
        "classes", "budget", "num_silos", "num_train", "num_iterations", "verifier", "seed", "frechet", "precision",
        "recall", "gain",
    ],
    "generalization_cost": [
        "verifier", "seed", "generation", "risk", "kept_risk", "accuracy", "slope", "sliced_w", "entropic_w", "frechet",
    ],
    "overhead": ["operation", "axis", "factor", "size", "seconds", "bytes"],
}  # fmt: skip
FURTHER = {"siloed_images": ["siloed_images_samples", "siloed_images_table"]}
DRAWN_TOGETHER = {"geodesic", "siloed_images"}  # by one command, without a name


def call(module: str, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("name", COLUMNS)
def test_experiment_writes_results_and_its_figure_draws_them(name, tmp_path):
    done = call(f"experiments.{name}", "--preset", "smoke", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / f"{name}.csv")
    assert list(table.columns) == COLUMNS[name]
    document = json.loads((tmp_path / f"{name}.json").read_text())
    assert document["configuration"]["preset"] == "smoke"
    assert {"jax", "numpy", "device"} <= set(document["versions"])
    arrays = xr.open_dataset(tmp_path / f"{name}.nc")
    assert set(arrays.dims) & {"generation", "round", "point", "factor", "epsilon"}
    tables = [name, *FURTHER.get(name, [])]
    assert {p.name for p in tmp_path.iterdir()} == {f"{t}.csv" for t in tables} | {f"{name}.json", f"{name}.nc"}
    if "trace_ratio" in table and name != "siloed_images":  # whose truth is held out
        start = table[table.generation == 0]
        np.testing.assert_allclose(start.trace_ratio, 1, rtol=1e-5)
        assert np.isfinite(table.trace_ratio).all()

    figures = tmp_path / "figures"
    module = "paper_figures" if name in DRAWN_TOGETHER else f"paper_figures.{name}"
    drawn = call(module, "--results", str(tmp_path), "--out", str(figures))
    assert drawn.returncode == 0, drawn.stderr
    for figure in tables:
        assert (figures / f"{figure}.png").stat().st_size > 20_000
        assert len(pd.read_csv(figures / f"{figure}.csv")) > 0

    again = call(f"experiments.{name}", "--preset", "smoke", "--out", str(tmp_path))
    assert again.returncode == 2
    assert again.stderr.splitlines()[-1].endswith("exists: give --overwrite to replace it")


def test_figure_draws_the_means_of_its_results(tmp_path):
    from paper_figures import gaussian_collapse

    rng = np.random.default_rng(0)
    index = pd.MultiIndex.from_product(
        [["replace", "accumulate+select"], range(4), [0, 1, 2], ["simulation", "theory"]],
        names=["setting", "seed", "generation", "source"],
    )
    table = index.to_frame(index=False)
    table["trace_ratio"], table["mean_error"] = rng.uniform(0.1, 1, (2, len(table)))
    figure, drawn = gaussian_collapse.draw(table)
    simulated = table[(table.setting == "replace") & (table.source == "simulation") & (table.generation > 0)]
    expected = simulated.groupby("generation").trace_ratio.mean().to_numpy()
    lines = [line.get_ydata() for line in figure.axes[0].lines]
    assert any(len(y) == 2 and np.allclose(y, expected) for y in lines)
    rows = drawn[(drawn.setting == "replace") & (drawn.source == "simulation") & (drawn.metric == "trace_ratio")]
    np.testing.assert_allclose(rows["mean"], expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--budget", "1.5"], "budget = 1.5: must be in (0, 1]"),
        (["--num-kept", "5"], "num_kept = 5: a Gaussian in 10 dimensions needs at least 12 samples"),
        (["--preset", "smok"], "did you mean 'smoke'?"),
        (["--num-generations", "0"], "num_generations = 0: must be at least 1"),
        (["--out", str(ROOT / "README.md" / "below")], "Not a directory"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, message, tmp_path):
    done = call("experiments.gaussian_collapse", "--preset", "smoke", "--out", str(tmp_path), *arguments)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


@dataclasses.dataclass(frozen=True)
class ToyConfig(Settings):
    """A toy experiment: registering one takes a config, presets and `run`."""

    num_generations: int = 12
    """Generations."""


def toy_run(config: ToyConfig, runner: Runner) -> Output:
    truth = Moments(jnp.float32(1), jnp.zeros(2), jnp.eye(2))
    target = isotropic_target(jnp.ones(2))
    recursion = sizes(20, 0.2, config.num_generations)

    def build(seed):
        collapse = build_collapse(gaussian(), top_of_gaussian(target), accumulate(moments_memory()))
        return Run(seed, collapse, truth, recursion, record_model({"trace_ratio": trace_ratio}, truth))

    arrays = runner.sweep("toy", build, {"seed": seeds(3, config.seed)}, chunk_size=3)
    return Output(arrays, arrays.to_dataframe().reset_index(), {})


def run_toy(monkeypatch, out: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["toy", "--preset", "quick", "--out", str(out)])
    common.main("toy", toy_run, ToyConfig, {"quick": {}})


def test_interrupted_experiment_keeps_its_chunks_and_continues_bit_for_bit(monkeypatch, tmp_path, capsys):
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    run_toy(monkeypatch, whole)

    saves = []
    save = common.results.save_arrays

    def save_then_interrupt(*arguments):
        save(*arguments)
        saves.append(arguments)
        if len(saves) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(common.results, "save_arrays", save_then_interrupt)
        with pytest.raises(SystemExit, match="130"):
            run_toy(monkeypatch, pieces)
    assert "interrupted; finished parts are kept" in capsys.readouterr().err
    (part,) = [p.relative_to(pieces) for p in pieces.rglob("*") if p.is_file()]
    assert (part.parts[0], part.name, len(part.parts)) == ("toy.parts", "toy.npz", 3)

    advances = []
    monkeypatch.setattr(common.results, "save_arrays", lambda *arguments: advances.append(save(*arguments)))
    run_toy(monkeypatch, pieces)
    assert len(advances) == 2
    assert {p.name for p in pieces.iterdir()} == {"toy.csv", "toy.json", "toy.nc"}
    assert (pieces / "toy.csv").read_bytes() == (whole / "toy.csv").read_bytes()
    jax.clear_caches()
