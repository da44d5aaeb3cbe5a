"""Where data sets are found: the data folder, a split in a folder, and the hub."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest
from small import write

from crossenc_kit import files
from crossenc_kit.data.candidates import read_candidates
from crossenc_kit.data.classification import read_duplicates, read_mrpc, read_nli
from crossenc_kit.data.similarity import read_sts
from crossenc_kit.data.sources import find_data
from crossenc_kit.errors import DataError


class TestFindData:
    def test_a_folder_given_comes_first(self, tmp_path, monkeypatch):
        monkeypatch.setenv("CROSSENC_KIT_DATA", str(tmp_path / "other"))
        assert find_data(tmp_path) == find_data(str(tmp_path)) == tmp_path

    def test_then_the_environment(self, tmp_path, monkeypatch):
        monkeypatch.setenv("CROSSENC_KIT_DATA", str(tmp_path))
        assert find_data() == find_data("") == tmp_path

    @pytest.mark.parametrize("place", ["site/crossenc_kit/shipped/data", "site/data"])
    def test_then_the_shipped_samples(self, tmp_path, monkeypatch, place):
        monkeypatch.delenv("CROSSENC_KIT_DATA", raising=False)
        monkeypatch.setattr(files, "__file__", str(tmp_path / "site/crossenc_kit/files.py"))
        (tmp_path / place).mkdir(parents=True)
        assert find_data() == tmp_path / place

    def test_the_samples_in_the_wheel_win_over_a_neighbour(self, tmp_path, monkeypatch):
        monkeypatch.delenv("CROSSENC_KIT_DATA", raising=False)
        monkeypatch.setattr(files, "__file__", str(tmp_path / "site/crossenc_kit/files.py"))
        (tmp_path / "site/data").mkdir(parents=True)
        (tmp_path / "site/crossenc_kit/shipped/data").mkdir(parents=True)
        assert find_data() == tmp_path / "site/crossenc_kit/shipped/data"

    def test_a_missing_folder_is_never_replaced(self, tmp_path, monkeypatch):
        with pytest.raises(DataError, match=r"no folder .*missing \(from data_dir\)"):
            find_data(tmp_path / "missing")
        monkeypatch.setenv("CROSSENC_KIT_DATA", str(tmp_path / "gone"))
        with pytest.raises(DataError, match=r"no folder .*gone \(from the environment variable CROSSENC_KIT_DATA\)"):
            find_data()

    def test_the_error_names_every_place(self, tmp_path, monkeypatch):
        monkeypatch.delenv("CROSSENC_KIT_DATA", raising=False)
        monkeypatch.setattr(files, "__file__", str(tmp_path / "site/crossenc_kit/files.py"))
        with pytest.raises(DataError) as error:
            find_data()
        for place in ("site/crossenc_kit/shipped/data", "site/data", "CROSSENC_KIT_DATA"):
            assert place in str(error.value)


@pytest.mark.parametrize(("read", "folders"), [(read_sts, ("sts", "stsb")), (read_nli, ("nli", "snli"))])
class TestFindSource:
    def test_splits_never_come_from_two_data_sets(self, tmp_path, read, folders):
        write(tmp_path / folders[0] / "train.jsonl", "{}")
        write(tmp_path / folders[1] / "test.jsonl", "{}")
        with pytest.raises(DataError, match=rf"{folders[0]} has no split 'test': looked for test\.jsonl, "):
            read(tmp_path, "test")

    def test_no_hub(self, monkeypatch, read, folders):
        def offline(name):
            raise ConnectionError(f"Couldn't reach '{name}'")

        monkeypatch.setattr(datasets, "load_dataset", offline)
        with pytest.raises(DataError, match=r"no file or folder 'org/name' here.*ConnectionError.*go online") as error:
            read("org/name")
        assert isinstance(error.value.__cause__, ConnectionError)

    def test_a_path_is_never_taken_for_a_hub_name(self, monkeypatch, tmp_path, read, folders):
        monkeypatch.setattr(datasets, "load_dataset", lambda name: pytest.fail("asked the hub"))
        monkeypatch.chdir(tmp_path)
        for source in (Path("org/name"), "org/train.jsonl", "org/sts-train.csv", "a/b/c"):
            with pytest.raises(DataError, match="no file or folder"):
                read(source)


@pytest.mark.parametrize(
    ("read", "target"),
    [
        (read_candidates, "label\n1"),
        (read_sts, "score\n2.5"),
        (read_nli, "label\nneutral"),
        (read_duplicates, "label\n1"),
        (read_mrpc, "label\n1"),
    ],
)
def test_every_reader_of_pairs_is_told_the_encoding(tmp_path, read, target):
    name, value = target.split("\n")
    content = f"sentence1\tsentence2\t{name}\nCaf\u00e9\tb\t{value}\n"
    path = write(tmp_path / "a.tsv", content.encode("latin-1"))
    with pytest.raises(DataError, match=r"a\.tsv, line 2: 0xe9 \(byte 4\) is not utf-8.*latin-1"):
        read(path)
    assert read(path, encoding="latin-1").left == ["Caf\u00e9"]
