"""Features in files: what is read, and what is refused, in one line that names it."""

import hashlib
import os

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

from jaxcollapse.pipeline import tables
from jaxcollapse.pipeline.tables import Reading, read, require_alike, require_unchanged, units_of

ROWS = np.random.default_rng(0).standard_normal((50, 3))
NAMES = ["a", "b", "c"]
WORDS = [f"r{i}" for i in range(50)]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(tables, "BLOCK", 7)


def frame(**changes):
    return pd.DataFrame(ROWS, columns=NAMES).assign(id=WORDS, kind=np.arange(50) % 2, **changes)


def written(path):
    """Write the rows in the format that the path's suffix says."""
    if path.suffix == ".npy":
        np.save(path, ROWS)
    elif path.suffix == ".npz":
        np.savez(path, rows=ROWS, id=np.array(WORDS), kind=np.arange(50) % 2)
    elif path.suffix == ".csv":
        frame().to_csv(path, index=False)
    else:
        pytest.importorskip("pyarrow")
        frame().to_parquet(path)
    return path


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv", ".parquet"])
def test_every_format_gives_the_same_rows(tmp_path, suffix):
    path = written(tmp_path / f"rows{suffix}")
    named = {} if suffix == ".npy" else {"label": "kind", "id": "id"}
    table = read(path, Reading(**named))
    assert_array_equal(table.points, ROWS)
    assert_array_equal(table.rows, np.arange(50))
    assert table.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    if named:
        assert_array_equal(table.ids, WORDS)
        assert_array_equal(table.labels, [str(i % 2) for i in range(50)])
    if suffix in (".csv", ".parquet"):
        assert table.columns == ("a", "b", "c")
        assert_array_equal(read(path, Reading(columns=("c", "a"))).points, ROWS[:, [2, 0]])


def test_arrays_stay_in_their_file(tmp_path):
    table = read(written(tmp_path / "rows.npy"), Reading())
    assert isinstance(table.points, np.memmap)
    assert table.points.filename == tmp_path / "rows.npy"
    np.save(tmp_path / "whole.npy", np.arange(12).reshape(4, 3))
    assert_array_equal(read(tmp_path / "whole.npy", Reading()).points, np.arange(12).reshape(4, 3))


@pytest.mark.parametrize("suffix", [".npy", ".csv"])
def test_invalid_rows_are_named_and_counted_or_dropped(tmp_path, suffix):
    rows, path = ROWS.copy(), tmp_path / f"rows{suffix}"
    rows[[9, 30], [1, 2]] = np.nan, 1e39
    if suffix == ".npy":
        np.save(path, rows)
    else:
        frame(b=rows[:, 1], c=rows[:, 2]).drop(columns="kind").to_csv(path, index=False)
    named = Reading(id="" if suffix == ".npy" else "id")
    column = "1" if suffix == ".npy" else "'b'"
    with pytest.raises(ValueError, match=rf"rows{suffix}: 2 rows .* the first is row 9, column {column}: nan; --drop"):
        read(path, named)
    table = read(path, Reading(id=named.id, drop_invalid=True))
    valid = np.delete(np.arange(50), [9, 30])
    assert table.dropped == 2
    assert_array_equal(table.rows, valid)
    assert_array_equal(table.points, rows[valid])
    if suffix == ".csv":
        assert_array_equal(table.ids, np.array(WORDS)[valid])


REFUSED = {
    "word.csv": ("a,b\n1,2\n1,hello\n", {}, "column 'b' holds 'hello' in row 1, which is no number"),
    "late.csv": ("a\n" + "1\n" * 20 + "x\n", {}, "column 'a' holds 'x' in row 20"),
    "headless.csv": ("1,2\n3,4\n5,6\n", {}, "its first row must hold the names of columns"),
    "empty.csv": ("", {}, "is cut short, or is not a file of kind .csv"),
    "one.csv": ("a,b\n1,2\n", {}, "has 1 valid rows, and needs 2"),
    "ragged.csv": ("a,b\n1,2\n1,2,3\n", {}, "Expected 2 fields in line 3, saw 3"),
    "wide.csv": ("a,b\n1,2,3\n1,2,3\n", {}, "rows have more fields than the first"),
    "twice.csv": ("a,id\n1,x\n2,x\n", {"id": "id"}, "1 ids occur twice, the first is 'x'"),
    "named.csv": ("a,b\n1,2\n3,4\n", {"columns": ("q",)}, "has no column 'q', only a, b"),
    "label.csv": ("a\n1\n2\n", {"label": "a"}, "has no column of features"),
    "note.txt": ("hello", {}, "must be .npy, .npz, .csv, .parquet, or name a function"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_table_is_refused_in_one_line(tmp_path, name):
    text, options, message = REFUSED[name]
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=r"\A[^\n]*\Z") as told:
        read(tmp_path / name, Reading(**options))
    assert message in str(told.value)
    assert str(tmp_path / name) in str(told.value)


def test_arrays_that_are_no_table_are_refused(tmp_path):
    for array, message in (
        (np.zeros((3, 2, 2)), r"shape \(3, 2, 2\) must be \[n, d\]"),
        (np.array([["a"], ["b"]]), "must be numbers"),
        (np.array([[1 + 2j], [0]]), "must be numbers"),
    ):
        np.save(tmp_path / "x.npy", array)
        with pytest.raises(ValueError, match=message):
            read(tmp_path / "x.npy", Reading())
    np.savez(tmp_path / "x.npz", rows=ROWS, kind=np.arange(49))
    with pytest.raises(ValueError, match="50 rows, and 49 labels"):
        read(tmp_path / "x.npz", Reading(label="kind"))
    with pytest.raises(ValueError, match="holds the arrays rows, kind: name the one of features"):
        read(tmp_path / "x.npz", Reading())
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npy not found"):
        read(tmp_path / "nowhere.npy", Reading())
    os.mkfifo(tmp_path / "pipe.npy")
    with pytest.raises(ValueError, match="is no regular file"):
        read(tmp_path / "pipe.npy", Reading())


def test_features_come_from_a_function_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_features.py").write_text(
        "import numpy as np\n"
        "def flat(x): return x.reshape(len(x), -1)\n"
        "def sizes(words): return np.array([[len(w), w.count('l')] for w in words])\n"
        "def of_path(path): return np.full((3, 2), path.stat().st_size)\n"
        "def one(x): return x.sum()\n"
        "def fails(x): return x['a']\n"
    )
    images = np.arange(40, dtype=np.uint8).reshape(10, 2, 2)
    np.save(tmp_path / "images.npy", images)
    assert_array_equal(
        read(tmp_path / "images.npy", Reading(features="my_features:flat")).points, images.reshape(10, 4)
    )
    (tmp_path / "text.csv").write_text("text,id\nhello,1\nall well,2\n")
    table = read(tmp_path / "text.csv", Reading(columns=("text",), id="id", features="my_features:sizes"))
    assert_array_equal(table.points, [[5, 2], [8, 4]])
    (tmp_path / "note.txt").write_text("hello")
    assert_array_equal(read(tmp_path / "note.txt", Reading(features="my_features:of_path")).points, np.full((3, 2), 5))
    with pytest.raises(ValueError, match=r"features: of an array \(10, 2, 2\) there are \(\), and must be \[n, d\]"):
        read(tmp_path / "images.npy", Reading(features="my_features:one"))
    with pytest.raises(ValueError, match=r"\Afeatures = 'my_features:fails': IndexError: "):
        read(tmp_path / "images.npy", Reading(features="my_features:fails"))


def test_an_index_of_a_data_frame_is_no_feature(tmp_path):
    pytest.importorskip("pyarrow")
    frame().iloc[::2].drop(columns="kind").to_parquet(tmp_path / "rows.parquet")
    table = read(tmp_path / "rows.parquet", Reading(id="id"))
    assert table.columns == ("a", "b", "c")
    assert_array_equal(table.points, ROWS[::2])


def test_a_file_that_changes_is_noticed(tmp_path):
    table = read(written(tmp_path / "rows.npy"), Reading())
    require_unchanged(table)
    os.utime(tmp_path / "rows.npy", (1, 1))
    with pytest.raises(ValueError, match="has changed while it was read"):
        require_unchanged(table)


def test_files_must_have_the_same_columns(tmp_path):
    tables = []
    for name, columns in (("x", "ab"), ("y", "ba"), ("z", "abc")):
        pd.DataFrame(ROWS[:, : len(columns)], columns=list(columns)).to_csv(tmp_path / f"{name}.csv", index=False)
        tables.append(read(tmp_path / f"{name}.csv", Reading()))
    with pytest.raises(ValueError, match=r"y.csv has the column 'b' where .*x.csv has 'a'"):
        require_alike(Reading(), *tables[:2])
    with pytest.raises(ValueError, match=r"z.csv has 3 columns of features, and .*x.csv 2"):
        require_alike(Reading(), tables[0], tables[2])


def test_units_are_those_of_all_real_data(tmp_path):
    for name, rows in (("x", 5 + 3 * ROWS[:20]), ("y", ROWS[20:])):
        np.save(tmp_path / f"{name}.npy", rows)
    real = [read(tmp_path / f"{name}.npy", Reading()) for name in "xy"]
    together = np.concatenate([table.points for table in real])
    given, standard = units_of(real, Reading()), units_of(real, Reading(standardise=True))
    assert_array_equal(given(together), together.astype(np.float32))
    np.testing.assert_allclose(standard(together), (together - together.mean(0)) / together.std(0), atol=1e-5)
    np.save(tmp_path / "z.npy", ROWS * [1, 1, 1e-3] + [0, 0, 1e4])
    far = [read(tmp_path / "z.npy", Reading())]
    with pytest.raises(ValueError, match=r"column 'column 2' is 1e\+04 \+- .* --standardise shifts"):
        units_of(far, Reading())
    expected = (far[0].points - far[0].points.mean(0)) / far[0].points.std(0)
    np.testing.assert_allclose(units_of(far, Reading(standardise=True))(far[0].points), expected, atol=1e-5)
    np.save(tmp_path / "z.npy", ROWS * [1, 0, 1])
    with pytest.raises(ValueError, match="column 'column 1' is constant, 0, in"):
        units_of([read(tmp_path / "z.npy", Reading())], Reading(standardise=True))
