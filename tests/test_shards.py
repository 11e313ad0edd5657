"""Shards of an experiment, merged: equal to the single run, and refused where they are not all of one run."""

import io
import os
import re
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
import toy_sweeps
from several_devices import axes, problem, small

from jaxcollapse import command, results
from jaxcollapse.experiments.support.display import Display
from jaxcollapse.experiments.support.runner import Options, Output, Places, execute, merge_shards
from jaxcollapse.sweep import merge

ROOT = Path(__file__).parents[1]
CONFIG = toy_sweeps.Config(seed=3, pair=((1, 2.0), (3, 4.5)), place=Path("some/where"))
NAMES = ("first", "second")


def lines_of(function, *arguments):
    stream = io.StringIO()
    display = Display(stream)
    function("toy", *arguments, display)
    display.close()
    return [line[len("12:00:00 ") :] for line in stream.getvalue().splitlines()]


def single(out, config=CONFIG, experiment=toy_sweeps, **options):
    lines_of(execute, experiment, config, Options(out=out, **options))
    return results.load(out / "toy.nc")


def shard(out, text, config=CONFIG, experiment=toy_sweeps, **options):
    return lines_of(execute, experiment, config, Options(out=out, shard=text, **options))


def merged(out, experiment=toy_sweeps, **options):
    lines_of(merge_shards, experiment, Places(out=out, **options))
    return results.load(out / "toy.nc")


def files_in(directory):
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


@pytest.fixture
def two(tmp_path):
    """Run two shards of two lanes at once."""
    for text in ("1/2", "2/2"):
        shard(tmp_path, text, lanes=2)
    return tmp_path, next((tmp_path / "toy.shards").iterdir())


def test_shards_merged_are_the_single_run(tmp_path):
    whole = single(tmp_path / "whole", lanes=2)
    for i in (3, 1, 2):
        assert shard(tmp_path, f"{i}/3", lanes=2)[-1].startswith(f"toy: shard {i}/3 in {tmp_path / 'toy.shards'}")
    mark = whole.attrs["fingerprint"][:16]
    kept = [f"{i}-of-3/{name}{more}.npz" for i in (1, 2, 3) for name in NAMES for more in (", chunk 1", "")]
    # Three shards of eight lanes have 2, 3 and 3 of them.
    kept = [file for file in kept if not file.startswith("1-of-3") or "chunk" not in file]
    assert files_in(tmp_path / "toy.shards" / mark) == sorted([*kept, "configuration.json"])
    assert files_in(tmp_path) == sorted(
        [*(f"toy.shards/{mark}/{file}" for file in [*kept, "configuration.json"]), "whole/toy.nc"]
    )
    found = merged(tmp_path)
    layouts = {name: whole.attrs["sweeps"][name] | {"chunks": 5, "shards": 3} for name in NAMES}
    assert found.attrs.pop("sweeps") == layouts
    assert whole.attrs.pop("sweeps") == {
        name: {"lanes": 8, "devices": 1, "lanes_per_device": 2, "chunks": 4, "shards": 1} for name in NAMES
    }
    assert found.identical(whole)
    assert any("large steps, in " in message for message in found.attrs["warnings"])
    assert len(np.unique(found.place.isel(generation=-1))) == 16
    assert "toy.parts" not in [path.name for path in tmp_path.iterdir()]
    (line,) = lines_of(merge_shards, toy_sweeps, Places(out=tmp_path))
    assert line.endswith("is there already, of this very configuration and version")


def test_there_may_be_more_shards_than_lanes(tmp_path):
    for i in range(1, 12):
        shard(tmp_path, f"{i}/11", lanes=2)
    found, whole = merged(tmp_path), single(tmp_path / "whole", lanes=2)
    assert found.drop_attrs().identical(whole.drop_attrs())
    assert found.attrs["sweeps"]["first"]["shards"] == 8


def test_shards_of_other_widths_are_the_single_run_but_for_rounding(tmp_path):
    """Batches of other sizes are summed in another order."""
    whole = small(3)
    for i in (1, 2):
        (tmp_path / str(i)).mkdir()
        small(3, shard=(i, 2), lanes=2 * i, checkpoint=tmp_path / str(i) / "part.npz")
    found = merge(results.chunk_files(tmp_path, "part"), axes(3), fixed=problem())
    assert found.attrs["layout"]["lanes_per_device"] == [2, 4]
    for name in whole:
        np.testing.assert_allclose(found[name], whole[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/0", "a/b", "-1/2", "1/2/3", "1.0/2"])
def test_what_is_no_shard_is_refused(tmp_path, text):
    message = f"--shard = {text!r}: must be I/N, whole numbers with 1 <= I <= N, as in 1/4"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        shard(tmp_path, text)
    assert not files_in(tmp_path)


def refuses(message, out, experiment=toy_sweeps):
    """Require that a merge is refused in one line, and that nothing is written."""
    with pytest.raises((ValueError, OSError)) as error:
        merged(out, experiment)
    assert re.fullmatch(message, str(error.value)), str(error.value)
    assert not (out / "toy.nc").exists()


def test_no_shards_are_refused(tmp_path):
    refuses(r".* holds no shards of toy: `run toy --shard 1/2` makes one of two", tmp_path)


def test_holes_are_refused(two):
    out, shards = two
    (shards / "2-of-2" / "second, chunk 1.npz").unlink()
    refuses(r".*toy\.shards/\w+, second: lanes 6 to 7 of 8 are in no finished shard", out)
    (shards / "1-of-2" / "first.npz").unlink()
    refuses(r".*, first: lanes 0 to 1 of 8 are in no finished shard", out)
    for text in ("1/2", "2/2"):
        shard(out, text, lanes=2)
    assert merged(out).drop_attrs().identical(single(out / "whole", lanes=2).drop_attrs())


def test_overlaps_are_refused(two):
    out, _ = two
    shard(out, "2/3", lanes=2)
    refuses(r".*, first: lanes 2 to 3 of 8 are in two shards, .*1-of-2/.* and .*2-of-3/.*|.*two shards.*", out)


def test_shards_that_are_damaged_are_set_aside_as_holes(two):
    out, shards = two
    path = shards / "1-of-2" / "second.npz"
    path.write_bytes(path.read_bytes()[:-5])
    refuses(r".*, second: lanes 0 to 1 of 8 are in no finished shard", out)
    assert path.with_name("second.npz.damaged").exists()


def test_other_configurations_versions_and_code_are_refused(two, monkeypatch):
    out, shards = two
    other = toy_sweeps.Config(seed=4)
    shard(out, "1/2", other)
    refuses(r".*toy\.shards holds 2 configurations, versions or codes: keep one", out)
    (theirs,) = set((out / "toy.shards").iterdir()) - {shards}
    os.replace(theirs / "1-of-2" / "first.npz", shards / "1-of-2" / "first.npz")
    for path in sorted(theirs.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    theirs.rmdir()
    refuses(r".*first\.npz is the checkpoint of another run, which differs in seed, run: remove it", out)
    monkeypatch.setattr(results, "code", lambda: "new")
    refuses(r".*toy\.shards/\w+ is of another version or code: run its shards again", out)


def test_a_sweep_of_what_another_simulated_is_refused(tmp_path):
    """A shard does not know all that the second sweep starts from."""

    def run(config, runner):
        walk = toy_sweeps.walk(5)
        first = runner.sweep("first", walk, {"scale": [1.0], "seed": axes()["seed"]}, fixed={"start": jnp.float32(0)})
        start = jnp.float32(first.place.isel(generation=-1).sum())
        return Output(
            runner.sweep("second", walk, {"scale": [1.0], "seed": axes()["seed"]}, fixed={"start": start}), {}
        )

    experiment = SimpleNamespace(run=run, Config=toy_sweeps.Config)
    for text in ("1/2", "2/2"):
        shard(tmp_path, text, experiment=experiment)
    refuses(r".*second\.npz is the checkpoint of another run, which differs in start: remove it", tmp_path, experiment)


def test_a_shard_is_held_against_itself_and_not_against_others(tmp_path):
    shard(tmp_path, "1/2")
    place = next(tmp_path.glob("toy.shards/*/1-of-2"))
    with results.lock(place / "lock"):
        with pytest.raises(BlockingIOError, match=r"^it is running in .* already: wait, or give another --out$"):
            shard(tmp_path, "1/2")
        shard(tmp_path, "2/2")
        assert merged(tmp_path).attrs["summary"]


def test_the_command_merges_with_the_configuration_of_the_shards(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "keep_programs", lambda directory: None)
    monkeypatch.setitem(command.RUNNABLE, "geodesic", "toy_sweeps")
    for i in (1, 2):
        flags = ["--num-seeds", "3", "--lanes", "2", "--shard", f"{i}/2", "--figures", str(tmp_path)]
        assert command.main(["run", "geodesic", *flags, "--out", str(tmp_path)]) == 0
    assert not list(tmp_path.glob("*.*[cg]"))
    assert command.main(["merge", "geodesic", "--out", str(tmp_path)]) == 0
    assert results.load(tmp_path / "geodesic.nc").sizes["seed"] == 3
    assert command.main(["merge", "nothing", "--out", str(tmp_path)]) == 2
    assert command.main(["merge", "overhead", "--out", str(tmp_path)]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith(
        f"overhead: {tmp_path} holds no shards of overhead: `run overhead --shard 1/2` makes one of two"
    )
