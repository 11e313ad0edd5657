"""Selection from files: the same as in experiments, whole or in tiles; and what is said of it."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import linalg, stats
from sklearn.neighbors import NearestNeighbors

from jaxcollapse.analysis import wilson
from jaxcollapse.base import counted
from jaxcollapse.command import main
from jaxcollapse.measures import uniform_measure
from jaxcollapse.pipeline import before_after
from jaxcollapse.pipeline import tiles as tiles_module
from jaxcollapse.pipeline.select import KEEPERS, made, select
from jaxcollapse.sizes import sizes
from jaxcollapse.verifiers import VERIFIERS

RNG = np.random.default_rng(0)
CENTRES = 3 * RNG.standard_normal((3, 4))
SILOS = [(centre + RNG.standard_normal((80, 4))).astype(np.float32) for centre in CENTRES]
POOL = (CENTRES[RNG.choice(3, 600, p=[0.45, 0.35, 0.2])] + RNG.standard_normal((600, 4))).astype(np.float32)
POOL[:30] *= 8
NUM_KEPT = 150


@pytest.mark.parametrize("name", ["kernel_balanced", "landmark_balanced", "tilt", "capped", "single_silo", "random"])
def test_a_small_pool_is_selected_from_as_in_experiments(name):
    found = select(POOL, SILOS, num_kept=NUM_KEPT, verifier=name)
    chosen, (_, key) = made(name, SILOS, 0), jax.random.split(jax.random.key(0))
    bounds = sizes(NUM_KEPT, NUM_KEPT / len(POOL), temperature=1.0)
    weights = counted(jax.jit(chosen)(key, uniform_measure(POOL), bounds)).value
    assert_array_equal(found.kept, np.flatnonzero(weights))
    assert_allclose(found.probability.sum(), NUM_KEPT, rtol=1e-3)
    assert found.num_tiles == 1


def test_every_verifier_keeps_as_many_as_asked_from_tiles():
    for name in KEEPERS:
        found = select(POOL, SILOS, num_kept=NUM_KEPT, verifier=name, tile=250)
        assert len(np.unique(found.kept)) == NUM_KEPT, name
        assert found.num_tiles == 3, name
    assert set(VERIFIERS) - set(KEEPERS) == {"recoloured", "keep_all"}


@pytest.mark.parametrize("name", ["kernel_balanced", "landmark_balanced"])
def test_tiles_change_the_kept_set_less_than_the_draw_does(name):
    whole, tiled = (select(POOL, SILOS, num_kept=NUM_KEPT, verifier=name, tile=tile) for tile in (600, 300))
    other = select(POOL, SILOS, num_kept=NUM_KEPT, verifier=name, key=1)
    same, redrawn = (np.isin(whole.kept, each.kept).mean() for each in (tiled, other))
    assert same > redrawn + 4 * np.sqrt(redrawn * (1 - redrawn) / NUM_KEPT)
    assert_allclose(tiled.probability.sum(), NUM_KEPT, rtol=1e-3)
    if name == "landmark_balanced":  # whose goals do not depend on the tile; gaps of 1e-3 leave as much, both times
        assert np.linalg.norm(tiled.probability - whole.probability) < 2 * np.sqrt(NUM_KEPT * 1e-3 / 2)
    else:
        assert tiled.probability[:30].sum() < 0.1  # of 30 rows of junk


def test_a_fit_to_many_tiles_reaches_the_goals_where_one_tile_overfits(monkeypatch):
    """With more multipliers than a tile has rows."""
    misses = []
    for rounds in (6, 0):
        monkeypatch.setattr(tiles_module, "ROUNDS", rounds)
        found = select(POOL, SILOS, num_kept=NUM_KEPT, verifier="landmark_balanced", tile=60)
        mean = found.probability @ POOL / NUM_KEPT
        misses.append(np.linalg.norm(mean - np.concatenate(SILOS).mean(axis=0)))
    assert misses[0] < misses[1] / 20


def test_bad_numbers_are_refused():
    for wrong, message in (
        ({"num_kept": 600}, "num_kept = 600"),
        ({"num_kept": 0}, "num_kept = 0"),
        ({"num_kept": 5, "verifier": "recoloured"}, "recoloured"),
        ({"num_kept": 5, "tile": 1}, "tile = 1"),
    ):
        with pytest.raises(ValueError, match=message):
            select(POOL, SILOS, **wrong)
    spoiled = np.where(np.arange(600)[:, None] == 7, np.nan, POOL)
    for candidates, silos, message in (
        (spoiled, SILOS, "candidates"),
        (POOL, [SILOS[0], spoiled], "silos"),
        (POOL[:, :3], SILOS, r"\[3, 4\] columns"),
    ):
        for tile in (300, 600):
            with pytest.raises(ValueError, match=message):
                select(candidates, silos, num_kept=5, tile=tile)


def test_fewer_may_be_kept_than_there_are_tiles():
    for name in ("random", "kernel_balanced"):
        assert len(select(POOL, SILOS, num_kept=2, verifier=name, tile=150).kept) == 2


def test_intervals_are_those_of_the_rows_that_are_sampled():
    rng = np.random.default_rng(1)
    silos = before_after.side_of(SILOS, rng, 50)
    sides = [before_after.side(lambda rows: POOL[rows], np.arange(size), rng, 50) for size in (600, 150)]
    numbers = [before_after.numbers(side, silos) for side in sides]
    found = {q.name: q for q in before_after.quantities(silos, *sides, numbers)}
    for name, size in (("precision_before", 600), ("precision_after", 150), ("recall_after", 240)):
        expected = stats.binomtest(round(found[name].value * size), size).proportion_ci(method="wilson")
        assert_allclose((found[name].low, found[name].high), expected, atol=1e-6)


def test_numbers_before_and_after_are_those_of_scipy_and_scikit_learn():
    rng, real = np.random.default_rng(1), np.concatenate(SILOS)
    silos = before_after.side_of(SILOS, rng, 50)
    side = before_after.side(lambda rows: POOL[rows], np.arange(600), rng, 50)
    found = before_after.numbers(side, silos)
    means, covariances = zip(*((x.mean(0), np.cov(x.T.astype(float), bias=True)) for x in (POOL, real)), strict=True)
    assert_allclose(side.moments.covariance, covariances[0], rtol=1e-4)
    cross = linalg.sqrtm(covariances[0] @ covariances[1]).real
    distance = np.sum((means[0] - means[1]) ** 2) + np.trace(covariances[0] + covariances[1] - 2 * cross)
    assert_allclose(found["frechet"], distance, rtol=1e-3)
    assert_allclose(found["trace_ratio"], np.trace(covariances[0]) / np.trace(covariances[1]), rtol=1e-4)
    shift = means[0] - means[1]
    assert_allclose(found["mean_distance"], np.sqrt(shift @ np.linalg.solve(covariances[1], shift)), rtol=1e-3)
    reach = NearestNeighbors(n_neighbors=4).fit(real).kneighbors(real)[0][:, -1]
    inside = (np.linalg.norm(POOL[:, None] - real, axis=-1) <= reach).any(axis=1)
    assert_allclose(found["precision"], inside.mean(), atol=1e-6)


def test_wilson_is_that_of_scipy():
    for count, size in ((0, 20), (7, 20), (20, 20)):
        expected = stats.binomtest(count, size).proportion_ci(method="wilson")
        assert_allclose(wilson(count, size), expected, atol=1e-12)


def test_classes_that_fall_are_told():
    labels = np.repeat(["a", "b", "c"], [400, 150, 50])
    listed = before_after.classes(labels, np.r_[0:140, 400:410], np.array(["a", "b", "d"] * 50))
    frame = listed.frame.set_index("class")
    assert_allclose(frame.kept, [14 / 15, 1 / 15, 0, 0])
    assert_allclose(frame.silos, [1 / 3, 1 / 3, 0, 1 / 3])
    assert frame.falls.tolist() == [False, True, False, False]


@pytest.fixture
def team(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = list("wxyz")
    for i, silo in enumerate(SILOS):
        pd.DataFrame(silo, columns=names).assign(kind=str(i)).to_csv(f"silo{i}.csv", index=False)
    ids = [f"s{i}" for i in range(len(POOL))]
    kinds = np.linalg.norm(POOL[:, None] - CENTRES, axis=-1).argmin(axis=1)
    pd.DataFrame(POOL, columns=names).assign(kind=kinds, id=ids).to_csv("pool.csv", index=False)
    return tmp_path


ASKED = [
    "select",
    "pool.csv",
    "--silo",
    "silo0.csv",
    "silo1.csv",
    "silo2.csv",
    "--keep",
    "150",
    "--label",
    "kind",
    "--id",
    "id",
]


def test_the_verb_writes_what_the_function_finds(team, capsys):
    asked = [*ASKED, "--scores", "scores.csv", "--html", "page.html"]
    assert main([*asked, "--json", "report.json"]) == 0
    report = json.loads((team / "report.json").read_text())
    found = select(POOL, SILOS, num_kept=NUM_KEPT)
    assert report["kept"] == found.kept.tolist()
    scores = pd.read_csv("scores.csv")
    assert scores.id[scores.kept].tolist() == [f"s{i}" for i in found.kept]
    assert_allclose(scores.probability, found.probability, rtol=1e-5)
    page = (team / "page.html").read_text()
    assert "<svg" in page
    # What is left are names of vocabularies, not addresses.
    assert set(re.findall(r"https?://[^\s\"]+", page)) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "<script" not in page
    told = capsys.readouterr()
    assert "150 of 600 candidates are kept by kernel_balanced" in " ".join(told.out.split())
    assert report["settings"]["silo_1"].startswith("silo1.csv (80 rows, SHA-256 ")
    for quantity in report["quantities"].values():
        assert quantity["definition"]
    assert main([*asked, "--json", "other.json"]) == 2
    assert "page.html exists: name another file, or --overwrite" in capsys.readouterr().err
    assert not (team / "other.json").exists()
    assert main([*asked, "--json", "other.json", "--overwrite"]) == 0
    assert json.loads((team / "other.json").read_text()) == report


def test_bad_input_is_refused_in_one_line_and_nothing_is_written(team, capsys):
    np.save("narrow.npy", POOL[:, :3])
    (team / "nan.csv").write_text("w,x,y,z,kind\n1,2,3,4,0\n1,,3,4,0\n5,6,7,8,1\n")
    for words, message in (
        (["--keep", "600"], "keep = 600: must be at least 1 and less than the 600 candidates"),
        (["--keep", "0"], "keep = 0"),
        (["--silo", "nowhere.csv"], "nowhere.csv not found"),
        (["--silo", "nan.csv"], "nan.csv: 1 rows hold what is no finite number, the first is row 1, column 'x': nan"),
        (["--silo", "narrow.npy"], "narrow.npy has 3 columns of features, and silo0.csv 4"),
        (["--verifier", "best"], "--verifier"),
        (["--scores", "scores.txt"], "must be a csv or a parquet file"),
        (["--scores", "nowhere/scores.csv"], "nowhere not found"),
        (["--id", "kind", "--label", "id"], "ids occur twice"),
        (["--label", "class"], "label = 'class': no file has such a column"),
        (["--columns", "w", "q"], "has no column 'q'"),
    ):
        before = sorted(team.iterdir())
        assert main([*ASKED, *words, "--json", "report.json"]) == 2, words
        lines = [line for line in capsys.readouterr().err.splitlines() if "reading" not in line]
        assert len(lines) == 1, lines
        assert message in lines[0]
        assert sorted(team.iterdir()) == before
    assert main([*ASKED, "--silo", "nan.csv", "silo1.csv", "--drop-invalid"]) == 0
    assert "nan.csv: 1 invalid rows are dropped" in " ".join(capsys.readouterr().out.split())


def test_silos_may_be_named_one_by_one(team, capsys):
    one_by_one = [word for i in range(3) for word in ("--silo", f"silo{i}.csv")]
    kept = []
    for silos in (["--silo", *one_by_one[1::2]], one_by_one):
        assert main(["select", "pool.csv", *ASKED[6:], "--json", "-", *silos]) == 0
        kept.append(json.loads(capsys.readouterr().out)["kept"])
    assert kept[0] == kept[1]
    assert main(["select", "pool.csv", "--keep", "150"]) == 2
    assert "silo: name files of real data" in capsys.readouterr().err


def test_a_signal_leaves_nothing_however_late_it_comes(team, capsys, monkeypatch):
    panel = before_after.panel

    def interrupted(*given):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)  # until the thread that hears signals has heard it
        return panel(*given)

    monkeypatch.setattr(before_after, "panel", interrupted)
    before = sorted(team.iterdir())
    assert main([*ASKED, "--json", "report.json", "--scores", "scores.csv"]) == 130
    assert "select: interrupted; nothing is written" in capsys.readouterr().err
    assert sorted(team.iterdir()) == before


def test_columns_in_unlike_units_are_warned_of_and_brought_to_one(team, capsys):
    for name in ("pool", "silo0", "silo1", "silo2"):
        frame = pd.read_csv(f"{name}.csv")
        frame.assign(w=100 * frame.w).to_csv(f"{name}.csv", index=False)
    reports = []
    for words in ([], ["--standardise"]):
        assert main([*ASKED, "--json", "-", *words]) == 0
        reports.append(json.loads(capsys.readouterr().out))
    assert any("column w holds" in warning for warning in reports[0]["warnings"])
    assert not any("column w holds" in warning for warning in reports[1]["warnings"])
    assert reports[1]["settings"]["standardise"] is True
    real = pd.concat([pd.read_csv(f"silo{i}.csv") for i in range(3)])[list("wxyz")].to_numpy()
    scale = real.std(axis=0)
    found = select(
        pd.read_csv("pool.csv")[list("wxyz")].to_numpy() / scale,
        [s * [100, 1, 1, 1] / scale for s in SILOS],
        num_kept=150,
    )
    assert np.isin(reports[1]["kept"], found.kept).mean() > 0.97  # the same up to a shift, and rounding


def test_json_on_standard_output_is_all_that_is_there(team):
    command = [sys.executable, "-c", "from jaxcollapse_command import main; raise SystemExit(main())", *ASKED]
    done = subprocess.run([*command, "--json", "-"], capture_output=True, check=True, text=True)
    assert len(json.loads(done.stdout)["kept"]) == 150
