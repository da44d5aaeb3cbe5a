"""Scored pairs in their published forms, from files, the hub and rows, are the same pairs."""

from __future__ import annotations

import gzip
import json

import datasets
import numpy as np
import pytest
from small import STS_GLUE, STS_PUBLISHED, STS_ROWS, write

from crossenc_kit.data import similarity
from crossenc_kit.data.pairs import as_pairs
from crossenc_kit.data.similarity import read_sts
from crossenc_kit.errors import DataError
from crossenc_kit.files import write_jsonl

LABELS = [0.9, 0.4, 0.0]
ROWS_01 = [{**row, "score": label} for row, label in zip(STS_ROWS, LABELS, strict=True)]
JSONL = "".join(json.dumps(row) + "\n" for row in STS_ROWS)
FORMS = {
    "sts/train.jsonl": JSONL,
    "stsb/train.jsonl.gz": gzip.compress(JSONL.encode()),
    "stsbenchmark/sts-train.csv": STS_PUBLISHED,
    "STS-B/train.tsv": STS_GLUE,
    "sts-train.csv": "\ufeff" + STS_PUBLISHED.replace("\n", "\r\n"),
    "train.tsv": "\ufeff" + STS_GLUE.replace("\n", "\r\n"),
    "train.jsonl": JSONL,
}


def check_rows(pairs):
    assert pairs.left == [row["sentence1"] for row in STS_ROWS]
    assert pairs.right == [row["sentence2"] for row in STS_ROWS]
    np.testing.assert_allclose(pairs.labels, LABELS, rtol=1e-6)
    assert pairs.labels.dtype == np.float32
    assert "scores 0 to 5 divided by 5: labels 0 to 1" in pairs.notes


class TestStsForms:
    @pytest.mark.parametrize("name", FORMS)
    def test_every_published_form_gives_the_same_pairs(self, tmp_path, name):
        path = write(tmp_path / name, FORMS[name])
        check_rows(read_sts(tmp_path))
        check_rows(read_sts(str(path.parent), "train"))
        check_rows(read_sts(path))
        assert read_sts(tmp_path).fingerprint() == read_sts(path).fingerprint() == as_pairs(ROWS_01).fingerprint()
        assert read_sts(tmp_path).notes[0] == f"from {path.parent.name}/{path.name}"

    def test_a_header_and_surplus_cells(self, tmp_path):
        header = "\t".join(similarity.STS_COLUMNS) + "\n"  # as in KorSTS
        check_rows(read_sts(write(tmp_path / "sts-train.tsv", header + STS_PUBLISHED)))

    def test_other_columns_become_tags(self, tmp_path):
        tags = read_sts(write(tmp_path / "sts-train.csv", STS_PUBLISHED)).tags
        assert list(tags) == ["genre", "filename", "year", "id"]
        assert tags["id"] == ["0000", "0001", "0002"]
        rows = [{"_id": "a", **STS_ROWS[0], "phenomenon": "negation"}, {"_id": "b", **STS_ROWS[1], "domain": "office"}]
        tags = read_sts(write_jsonl(tmp_path / "train.jsonl", rows)).tags
        assert tags == {"_id": ["a", "b"], "phenomenon": ["negation", None], "domain": [None, "office"]}

    @pytest.mark.parametrize("split", ["dev", "validation"])
    @pytest.mark.parametrize("name", ["dev.jsonl", "validation.jsonl", "sts-dev.csv"])
    def test_dev_and_validation_are_one_split(self, tmp_path, split, name):
        write(tmp_path / "stsb" / name, STS_PUBLISHED if name.endswith("csv") else JSONL)
        check_rows(read_sts(tmp_path, split))

    def test_sts_comes_before_stsb_and_an_empty_folder_does_not_count(self, tmp_path):
        (tmp_path / "sts").mkdir()
        write(tmp_path / "stsb/train.jsonl", JSONL)
        assert read_sts(tmp_path).notes[0] == "from stsb/train.jsonl"
        write(tmp_path / "sts/train.jsonl", JSONL)
        assert read_sts(tmp_path).notes[0] == "from sts/train.jsonl"

    def test_one_file_with_all_splits(self, tmp_path):
        rows = [{"split": split, **row} for split, row in zip(["train", "dev", "test"], STS_ROWS, strict=True)]
        path = write_jsonl(tmp_path / "stsbenchmark.jsonl.gz", rows)
        assert read_sts(path, "validation").left == [STS_ROWS[1]["sentence1"]]
        with pytest.raises(DataError, match=r"stsbenchmark\.jsonl\.gz: no rows for split 'extra'"):
            read_sts(path, "extra")

    def test_nothing_there(self, tmp_path):
        with pytest.raises(DataError, match=r"no STS data in .*looked for train\.jsonl.*sts, stsb, STS-B"):
            read_sts(tmp_path)
        for missing in (tmp_path / "train.jsonl", str(tmp_path / "train.jsonl"), "data/missing.jsonl.gz", "missing"):
            with pytest.raises(DataError, match=r"no file or folder .*; a hub data set is named 'org/name'"):
                read_sts(missing)
        with pytest.raises(DataError, match=r"train\.jsonl: no rows for split 'train'"):
            read_sts(write(tmp_path / "train.jsonl", ""))


class TestStsSources:
    def test_a_dataset(self):
        rows = [{"genre": "news", **row} for row in STS_ROWS]
        pairs = read_sts(datasets.Dataset.from_list(rows))
        check_rows(pairs)
        assert pairs.tags == {"genre": ["news"] * 3}

    def test_a_list_of_rows_and_a_column_named_label(self):
        check_rows(read_sts(STS_ROWS))
        check_rows(read_sts(datasets.Dataset.from_list(STS_ROWS).rename_column("score", "label")))

    def test_a_dictionary_of_splits(self):
        data = datasets.DatasetDict({"validation": datasets.Dataset.from_list(STS_ROWS)})
        check_rows(read_sts(data, "dev"))
        with pytest.raises(DataError, match="no split 'test'; it has validation"):
            read_sts(data, "test")

    def test_the_hub(self, monkeypatch):
        hub = {"sentence-transformers/stsb": datasets.DatasetDict({"validation": datasets.Dataset.from_list(ROWS_01)})}
        monkeypatch.setattr(datasets, "load_dataset", hub.__getitem__)
        pairs = read_sts("sentence-transformers/stsb", "dev")
        np.testing.assert_allclose(pairs.labels, LABELS)  # published as 0..1: divided once, not twice
        assert pairs.notes == ("from sentence-transformers/stsb", "scores already 0 to 1 (largest 0.9): not scaled")
