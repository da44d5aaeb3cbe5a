"""Parquet files as streams of rows and as columns."""

import numpy as np
import pytest

from crossenc_kit import DataError
from crossenc_kit.data.tables import is_parquet, open_parquet, parquet_bytes, parquet_columns, read_parquet

pyarrow = pytest.importorskip("pyarrow")


@pytest.fixture
def file(tmp_path):
    columns = {"id": ([7, None, 9], pyarrow.int32()), "text": (["a", "b", "c"], None)}
    path = tmp_path / "any.name"
    path.write_bytes(parquet_bytes({**columns, "score": (np.arange(3, dtype=np.float32), None)}))
    return path


def test_rows_come_back_with_their_numbers_and_types(file, tmp_path):
    rows = list(read_parquet(file))
    assert rows[0] == (0, {"id": 7, "text": "a", "score": 0.0})
    assert rows[1] == (1, {"id": None, "text": "b", "score": 1.0})
    assert list(read_parquet(file, ["text"])) == [(0, {"text": "a"}), (1, {"text": "b"}), (2, {"text": "c"})]
    with open_parquet(file) as opened:
        assert [str(field.type) for field in opened.schema_arrow] == ["int32", "string", "float"]
    assert parquet_columns(file, ["id"]).to_pydict() == {"id": [7, None, 9]}
    assert is_parquet(file)
    (tmp_path / "text").write_text("PAR")
    assert not is_parquet(tmp_path / "text")


def test_equal_columns_are_equal_bytes(file):
    again = {"id": ([7, None, 9], pyarrow.int32()), "text": (["a", "b", "c"], None)}
    assert parquet_bytes({**again, "score": (np.arange(3, dtype=np.float32), None)}) == file.read_bytes()


def test_row_numbers_go_on_over_batches_and_row_groups(tmp_path, monkeypatch):
    import pyarrow.parquet

    monkeypatch.setattr("crossenc_kit.data.tables.ROWS_AT_ONCE", 3)
    pyarrow.parquet.write_table(pyarrow.table({"n": range(10)}), tmp_path / "file", row_group_size=4)
    assert list(read_parquet(tmp_path / "file")) == [(n, {"n": n}) for n in range(10)]


def test_half_of_a_surrogate_pair_is_written_as_its_escape():
    assert b"\\ud800" in parquet_bytes({"text": (["\ud800", "b"], pyarrow.string())})


@pytest.mark.parametrize("read", [parquet_columns, lambda path: list(read_parquet(path))])
def test_a_damaged_file_is_named(file, read):
    data = file.read_bytes()
    file.write_bytes(data[:-20])
    with pytest.raises(DataError, match=r"any.name.*: the parquet file is damaged or cut short"):
        read(file)
    file.unlink()
    with pytest.raises(FileNotFoundError):
        read(file)


def test_a_column_that_is_not_there_is_named(file):
    with pytest.raises(DataError, match="has no column 'texts'; it has id, text, score"):
        parquet_columns(file, ["id", "texts"])
    with pytest.raises(DataError, match="has no column 'texts'; it has id, text, score"):
        list(read_parquet(file, ["texts"]))
