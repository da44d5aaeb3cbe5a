"""Files of pairs, checked once and read block by block."""

import json

import pytest

from crossenc_kit import DataError
from crossenc_kit.data.pair_files import AS_STORED, check_pairs, read_blocks


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_blocks_are_the_wanted_ones_with_what_is_kept(tmp_path):
    rows = [{"n": n, "left": f"l{n}", "right": f"r{n}", "other": 0} for n in range(7)]
    file = check_pairs(written(tmp_path / "pairs", rows), keep=["n"])
    assert (file.rows, file.left, file.right, file.kinds) == (7, "left", "right", {"n": "int64"})
    blocks = list(read_blocks(file, 3, [2, 0]))
    assert [number for number, _ in blocks] == [0, 2]
    assert blocks[0][1] == (0, [("l0", "r0"), ("l1", "r1"), ("l2", "r2")], {"n": [0, 1, 2]})
    assert blocks[1][1] == (6, [("l6", "r6")], {"n": [6]})
    assert list(read_blocks(file, 3, [])) == []


def test_kept_columns_have_one_type_over_the_whole_file(tmp_path):
    columns = {
        "int64": [1, None, -5],
        "float64": [1, 2.5, None],
        "bool_": [True, None, False],
        "string": ["a", None, "NA"],
        "nothing": [None, None, None],
        "mixed": ["a", 1, None],
        "nested": [{"a": [1]}, None, {}],
        "huge": [2**70, 1, None],
    }
    rows = [
        {"left": "a", "right": "b", **dict(zip(columns, values, strict=True))}
        for values in zip(*columns.values(), strict=True)
    ]
    file = check_pairs(written(tmp_path / "pairs", rows), keep=list(columns))
    expected = {"nothing": "string", "mixed": "json", "nested": "json", "huge": "json"}
    assert file.kinds == {name: expected.get(name, name) for name in columns}
    ((_, block),) = read_blocks(file, 10, [0])
    assert block.kept["mixed"] == ['"a"', "1", None]
    assert block.kept["nested"] == ['{"a": [1]}', None, "{}"]
    assert block.kept["float64"] == [1, 2.5, None]
    pytest.importorskip("pyarrow")
    types = {name: str(file.column_type(name)) for name in columns}
    assert types == {
        **{"int64": "int64", "float64": "double", "bool_": "bool", "string": "string"},
        **dict.fromkeys(expected, "string"),
    }


def test_a_parquet_file_keeps_its_types_and_names_rows(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    table = pyarrow.table({"day": pyarrow.array([1, 2], pyarrow.date32()), "a": ["x", "y"], "b": ["z", "z"]})
    parquet.write_table(table, tmp_path / "pairs")
    file = check_pairs(tmp_path / "pairs", keep=["day"])
    assert (file.left, file.right, file.kinds) == ("a", "b", {"day": AS_STORED})
    assert file.column_type("day") == pyarrow.date32()
    parquet.write_table(table.set_column(2, "b", [["z", None]]), tmp_path / "pairs")
    with pytest.raises(DataError, match="pairs, row 1, column 'b': the text is missing"):
        check_pairs(tmp_path / "pairs")


def test_bad_rows_are_counted_and_the_first_is_named(tmp_path):
    good = {"left": "a", "right": "b"}
    path = written(tmp_path / "pairs", [good, {"left": "a"}, good])
    with pytest.raises(DataError, match=r"pairs, line 2, column 'right': the text is missing.*text$"):
        check_pairs(path)
    written(path, [good, {"left": 3, "right": "b"}, {"left": "a"}])
    with pytest.raises(
        DataError, match=r"line 2, column 'left': expected a string, got int .*\(2 of 3 rows have no two"
    ):
        check_pairs(path)
    path.write_text("")
    with pytest.raises(DataError, match="pairs: the file has no rows"):
        check_pairs(path)
    path.write_text("left\tright\na\tb\nc\n")
    with pytest.raises(DataError, match="line 3: 1 columns, expected 2"):
        check_pairs(path)


def test_a_column_to_keep_may_come_late_but_must_come(tmp_path):
    path = written(tmp_path / "pairs", [{"left": "a", "right": "b"}, {"left": "a", "right": "b", "id": 1}])
    ((_, block),) = read_blocks(check_pairs(path, keep=["id"]), 5, [0])
    assert block.kept == {"id": [None, 1]}
    with pytest.raises(DataError, match="no column 'ids' to keep; the columns are left, right"):
        check_pairs(path, keep=["ids"])


def test_another_encoding(tmp_path):
    (tmp_path / "pairs").write_bytes("left\tright\nna\xefve\tb\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"line 2: 0xef \(byte 3\) is not utf-8"):
        check_pairs(tmp_path / "pairs")
    file = check_pairs(tmp_path / "pairs", encoding="latin-1")
    ((_, block),) = read_blocks(file, 5, [0])
    assert block.texts == [("naïve", "b")]
