"""Data sets in their published forms, the scaling of their labels, and what unusable rows say."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import datasets
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crossenc_kit import folders, readers
from crossenc_kit.pairs import DataError, as_pairs
from crossenc_kit.parquet import parquet_bytes
from crossenc_kit.readers import find_data, read_pairs, read_sts, write_jsonl

PUBLIC_DATA = Path(os.environ.get("CROSSENC_KIT_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data")
needs_public_data = pytest.mark.skipif(
    not (PUBLIC_DATA / "stsb").is_dir(), reason="no public data: set CROSSENC_KIT_TEST_DATA to a folder with stsb/"
)

ROWS = [
    {"sentence1": "A cat sleeps.", "sentence2": "A cat naps.", "score": 4.5},
    {"sentence1": '"Well, he left.', "sentence2": "NA", "score": 2.0},
    {"sentence1": "null", "sentence2": "one\u2028two\x85three", "score": 0.0},
]
LABELS = [0.9, 0.4, 0.0]
ROWS_01 = [{**row, "score": label} for row, label in zip(ROWS, LABELS, strict=True)]
# genre, filename, year, id, score, sentence1, sentence2, and sometimes the sources
PUBLISHED = "".join(
    f"main-news\theadlines\t2015\t000{i}\t{row['score']:.3f}\t{row['sentence1']}\t{row['sentence2']}{more}\n"
    for i, (row, more) in enumerate(zip(ROWS, ["", "\thttp://a\thttp://b", ""], strict=True))
)
GLUE = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n" + "".join(
    f"{i}\tmain-news\theadlines\t2015\t000{i}\tnone\tnone\t{row['sentence1']}\t{row['sentence2']}\t{row['score']:.3f}\n"
    for i, row in enumerate(ROWS)
)
JSONL = "".join(json.dumps(row) + "\n" for row in ROWS)
FORMS = {
    "sts/train.jsonl": JSONL,
    "stsb/train.jsonl.gz": gzip.compress(JSONL.encode()),
    "stsbenchmark/sts-train.csv": PUBLISHED,
    "STS-B/train.tsv": GLUE,
    "sts-train.csv": "\ufeff" + PUBLISHED.replace("\n", "\r\n"),
    "train.tsv": "\ufeff" + GLUE.replace("\n", "\r\n"),
    "train.jsonl": JSONL,
}


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def check_rows(pairs):
    assert pairs.left == [row["sentence1"] for row in ROWS]
    assert pairs.right == [row["sentence2"] for row in ROWS]
    np.testing.assert_allclose(pairs.labels, LABELS, rtol=1e-6)
    assert pairs.labels.dtype == np.float32
    assert "scores 0 to 5 divided by 5: labels 0 to 1" in pairs.notes


class TestFindData:
    def test_a_folder_given_comes_first(self, tmp_path, monkeypatch):
        monkeypatch.setenv("CROSSENC_KIT_DATA", str(tmp_path / "other"))
        assert find_data(tmp_path) == find_data(str(tmp_path)) == tmp_path

    def test_then_the_environment(self, tmp_path, monkeypatch):
        monkeypatch.setenv("CROSSENC_KIT_DATA", str(tmp_path))
        assert find_data() == find_data("") == tmp_path

    @pytest.mark.parametrize("place", ["site/crossenc_kit/data", "site/data"])
    def test_then_the_shipped_samples(self, tmp_path, monkeypatch, place):
        monkeypatch.delenv("CROSSENC_KIT_DATA", raising=False)
        monkeypatch.setattr(folders, "__file__", str(tmp_path / "site/crossenc_kit/folders.py"))
        (tmp_path / place).mkdir(parents=True)
        assert find_data() == tmp_path / place

    def test_the_samples_in_the_wheel_win_over_a_neighbour(self, tmp_path, monkeypatch):
        monkeypatch.delenv("CROSSENC_KIT_DATA", raising=False)
        monkeypatch.setattr(folders, "__file__", str(tmp_path / "site/crossenc_kit/folders.py"))
        (tmp_path / "site/data").mkdir(parents=True)
        (tmp_path / "site/crossenc_kit/data").mkdir(parents=True)
        assert find_data() == tmp_path / "site/crossenc_kit/data"

    def test_a_missing_folder_is_never_replaced(self, tmp_path, monkeypatch):
        with pytest.raises(DataError, match=r"no folder .*missing \(from data_dir\)"):
            find_data(tmp_path / "missing")
        monkeypatch.setenv("CROSSENC_KIT_DATA", str(tmp_path / "gone"))
        with pytest.raises(DataError, match=r"no folder .*gone \(from the environment variable CROSSENC_KIT_DATA\)"):
            find_data()

    def test_the_error_names_every_place(self, tmp_path, monkeypatch):
        monkeypatch.delenv("CROSSENC_KIT_DATA", raising=False)
        monkeypatch.setattr(folders, "__file__", str(tmp_path / "site/crossenc_kit/folders.py"))
        with pytest.raises(DataError) as error:
            find_data()
        for place in ("site/crossenc_kit/data", "site/data", "CROSSENC_KIT_DATA"):
            assert place in str(error.value)


class TestStsForms:
    @pytest.mark.parametrize("name", FORMS)
    def test_every_published_form_gives_the_same_pairs(self, tmp_path, name):
        path = write(tmp_path / name, FORMS[name])
        check_rows(read_sts(tmp_path))
        check_rows(read_sts(str(path.parent), "train"))
        check_rows(read_sts(path))
        assert read_sts(tmp_path).fingerprint() == read_sts(path).fingerprint() == as_pairs(ROWS_01).fingerprint()

    def test_from_the_environment(self, tmp_path, monkeypatch):
        write(tmp_path / "sts/train.jsonl", JSONL)
        monkeypatch.setenv("CROSSENC_KIT_DATA", str(tmp_path))
        check_rows(read_sts())
        check_rows(read_sts(""))

    def test_a_header_and_surplus_cells(self, tmp_path):
        header = "\t".join(readers.STS_COLUMNS) + "\n"  # as in KorSTS
        check_rows(read_sts(write(tmp_path / "sts-train.tsv", header + PUBLISHED)))

    def test_other_columns_become_tags(self, tmp_path):
        tags = read_sts(write(tmp_path / "sts-train.csv", PUBLISHED)).tags
        assert list(tags) == ["genre", "filename", "year", "id"]
        assert tags["id"] == ["0000", "0001", "0002"]
        rows = [{"_id": "a", **ROWS[0], "phenomenon": "negation"}, {"_id": "b", **ROWS[1], "domain": "office"}]
        tags = read_sts(write_jsonl(tmp_path / "train.jsonl", rows)).tags
        assert tags == {"_id": ["a", "b"], "phenomenon": ["negation", None], "domain": [None, "office"]}

    def test_the_notes_say_where_from_without_the_whole_path(self, tmp_path):
        write(tmp_path / "sts/train.jsonl", JSONL)
        notes = read_sts(tmp_path).notes
        assert notes[0] == "from sts/train.jsonl"
        assert str(tmp_path) not in " ".join(notes)

    @pytest.mark.parametrize("split", ["dev", "validation"])
    @pytest.mark.parametrize("name", ["dev.jsonl", "validation.jsonl", "sts-dev.csv"])
    def test_dev_and_validation_are_one_split(self, tmp_path, split, name):
        write(tmp_path / "stsb" / name, PUBLISHED if name.endswith("csv") else JSONL)
        check_rows(read_sts(tmp_path, split))

    def test_splits_never_come_from_two_data_sets(self, tmp_path):
        write(tmp_path / "sts/train.jsonl", JSONL)
        write(tmp_path / "stsb/test.jsonl", JSONL)
        with pytest.raises(DataError, match=r"sts has no split 'test': looked for test\.jsonl, .*sts-test\.csv"):
            read_sts(tmp_path, "test")

    def test_sts_comes_before_stsb_and_an_empty_folder_does_not_count(self, tmp_path):
        (tmp_path / "sts").mkdir()
        write(tmp_path / "stsb/train.jsonl", JSONL)
        assert read_sts(tmp_path).notes[0] == "from stsb/train.jsonl"
        write(tmp_path / "sts/train.jsonl", JSONL)
        assert read_sts(tmp_path).notes[0] == "from sts/train.jsonl"

    def test_one_file_with_all_splits(self, tmp_path):
        rows = [{"split": split, **row} for split, row in zip(["train", "dev", "test"], ROWS, strict=True)]
        path = write_jsonl(tmp_path / "stsbenchmark.jsonl.gz", rows)
        assert read_sts(path, "validation").left == [ROWS[1]["sentence1"]]
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

    def test_latin_1(self, tmp_path):
        path = write(tmp_path / "sts-train.csv", PUBLISHED.replace("\u2028", "\u00e9").encode("latin-1"))
        with pytest.raises(DataError, match=r"sts-train\.csv, line 3: 0xe9 \(byte \d+\) is not utf-8.*latin-1"):
            read_sts(path)
        assert read_sts(path, encoding="latin-1").right[2] == "one\u00e9two\x85three"


class TestStsSources:
    def test_a_dataset(self):
        rows = [{"genre": "news", **row} for row in ROWS]
        pairs = read_sts(datasets.Dataset.from_list(rows))
        check_rows(pairs)
        assert pairs.tags == {"genre": ["news"] * 3}

    def test_a_list_of_rows(self):
        check_rows(read_sts(ROWS))

    def test_a_column_named_label(self):
        renamed = [{"sentence1": r["sentence1"], "sentence2": r["sentence2"], "label": r["score"]} for r in ROWS]
        check_rows(read_sts(datasets.Dataset.from_list(renamed)))

    def test_a_dictionary_of_splits(self):
        data = datasets.DatasetDict({"validation": datasets.Dataset.from_list(ROWS)})
        check_rows(read_sts(data, "dev"))
        with pytest.raises(DataError, match="no split 'test'; it has validation"):
            read_sts(data, "test")

    def test_the_hub(self, monkeypatch):
        hub = {"sentence-transformers/stsb": datasets.DatasetDict({"validation": datasets.Dataset.from_list(ROWS_01)})}
        monkeypatch.setattr(datasets, "load_dataset", hub.__getitem__)
        pairs = read_sts("sentence-transformers/stsb", "dev")
        np.testing.assert_allclose(pairs.labels, LABELS)  # published as 0..1: divided once, not twice
        assert pairs.notes == ("from sentence-transformers/stsb", "scores already 0 to 1 (largest 0.9): not scaled")

    def test_no_hub(self, monkeypatch):
        def offline(name):
            raise ConnectionError(f"Couldn't reach '{name}'")

        monkeypatch.setattr(datasets, "load_dataset", offline)
        with pytest.raises(DataError, match=r"no file or folder 'org/name' here.*ConnectionError.*go online") as error:
            read_sts("org/name")
        assert isinstance(error.value.__cause__, ConnectionError)

    def test_a_path_is_never_taken_for_a_hub_name(self, monkeypatch, tmp_path):
        monkeypatch.setattr(datasets, "load_dataset", lambda name: pytest.fail("asked the hub"))
        monkeypatch.chdir(tmp_path)
        for source in (Path("org/name"), "org/train.jsonl", "org/sts-train.csv", "a/b/c"):
            with pytest.raises(DataError, match="no file or folder"):
                read_sts(source)


class TestStsScores:
    def with_scores(self, *scores):
        return [{**ROWS[0], "score": score} for score in scores]

    def test_scaled_by_the_highest_score(self):
        assert read_sts(self.with_scores(0, 2.5, 5)).labels.tolist() == [0.0, 0.5, 1.0]
        pairs = read_sts(self.with_scores(0, 2, 4), highest=4)
        assert pairs.labels.tolist() == [0.0, 0.5, 1.0]
        assert pairs.notes[1] == "scores 0 to 4 divided by 4: labels 0 to 1"

    def test_already_0_to_1(self):
        pairs = read_sts(self.with_scores(0, 0.5, 1))
        assert pairs.labels.tolist() == [0.0, 0.5, 1.0]
        assert pairs.notes[1] == "scores already 0 to 1 (largest 1): not scaled"

    def test_one_score_above_1_means_0_to_5(self):
        np.testing.assert_allclose(read_sts(self.with_scores(0, 0.5, 1.25)).labels, [0, 0.1, 0.25], rtol=1e-6)

    @given(st.lists(st.floats(0, 5), min_size=1), st.sampled_from([5.0, 10.0]))
    def test_labels_are_always_0_to_1_and_keep_their_order(self, scores, highest):
        labels = read_sts(self.with_scores(*scores), highest=highest).labels
        assert labels.min() >= 0
        assert labels.max() <= 1
        assert (np.diff(labels[np.argsort(scores, kind="stable")]) >= 0).all()

    @pytest.mark.parametrize(("score", "said"), [("-0.500", "-0.5"), ("5.200", "5.2"), ("-1.000", "-1")])
    def test_out_of_range(self, tmp_path, score, said):
        path = write(tmp_path / "sts-train.csv", PUBLISHED.replace("2.000", score))
        with pytest.raises(
            DataError, match=rf"sts-train\.csv, line 2, column 'score': the score is {said}, outside 0 to 5;"
        ):
            read_sts(path)

    def test_every_row_out_of_range_is_counted(self):
        with pytest.raises(DataError, match=r"row 1, column 'score': the score is 50, outside 0 to 5 \(and 1 more\)"):
            read_sts(self.with_scores(5, 50, 100))

    @pytest.mark.parametrize("score", ["nan", "inf", "", "high", "4,5"])
    def test_no_number(self, tmp_path, score):
        path = write(tmp_path / "train.tsv", GLUE.replace("2.000", score))
        with pytest.raises(DataError, match=r"train\.tsv, line 3, column 'score'"):
            read_sts(path)

    @pytest.mark.parametrize("score", [None, float("nan"), [1.0, 2.0], []])
    def test_no_number_in_json(self, score):
        with pytest.raises(DataError, match=r"row 1, column 'score'"):
            read_sts([ROWS[0], {**ROWS[1], "score": score}])

    def test_a_list_of_scores(self):
        with pytest.raises(DataError, match="expected one score a pair, got 2"):
            read_sts(self.with_scores([1.0, 2.0], [0.0, 1.0]))

    def test_hidden_and_missing_scores_are_unlabelled(self, tmp_path):
        cut = "\n".join(line.rsplit("\t", 1)[0] for line in GLUE.split("\n"))  # GLUE's test.tsv has no score
        pairs = read_sts(write(tmp_path / "test.tsv", cut), "test")
        assert pairs.labels is None
        assert "no score column: unlabelled" in pairs.notes
        pairs = read_sts(self.with_scores(-1, -1))
        assert pairs.labels is None
        assert "hidden labels" in pairs.notes[1]

    @pytest.mark.parametrize("highest", [0, -5])
    def test_highest(self, highest):
        with pytest.raises(ValueError, match="highest is"):
            read_sts(ROWS, highest=highest)


class TestStsRows:
    def test_a_missing_text(self, tmp_path):
        path = write_jsonl(tmp_path / "train.jsonl", [ROWS[0], {**ROWS[1], "sentence2": None}])
        with pytest.raises(DataError, match=r"train\.jsonl, line 2, column 'sentence2': the text is missing"):
            read_sts(path)

    def test_a_text_that_is_a_number(self, tmp_path):
        path = write_jsonl(tmp_path / "train.jsonl", [ROWS[0], {**ROWS[1], "sentence1": 7}])
        with pytest.raises(DataError, match=r"train\.jsonl, line 2, column 'sentence1': expected a string, got int"):
            read_sts(path)

    def test_a_missing_column(self, tmp_path):
        path = write(tmp_path / "train.tsv", "text1\ttext2\tscore\na\tb\t1\n")
        with pytest.raises(DataError, match="no column sentence1 or sentence2; the columns are text1, text2, score"):
            read_sts(path)

    def test_a_row_cut_short(self, tmp_path):
        path = write(tmp_path / "sts-train.csv", PUBLISHED + "main-news\theadlines\t2015\n")
        with pytest.raises(DataError, match=r"sts-train\.csv, line 4: 3 columns, expected 7 \(genre, .*sentence2\)"):
            read_sts(path)


class TestReadPairs:
    @pytest.mark.parametrize(
        "content",
        [
            '{"id": "1", "left": "a", "right": "b, \\"c\\"", "label": 1}\n'
            '{"id": "2", "left": "d", "right": "e", "label": 0}\n',
            'id\tleft\tright\tlabel\n1\ta\tb, "c"\t1\n2\td\te\t0\n',
            'id,left,right,label\n1,a,"b, ""c""",1\n2,d,e,0\n',
        ],
        ids=["jsonl", "tsv", "csv"],
    )
    @pytest.mark.parametrize("zipped", [False, True])
    def test_every_form(self, tmp_path, content, zipped):
        path = write(tmp_path / "pairs.data", gzip.compress(content.encode()) if zipped else content)
        pairs = read_pairs(path)
        assert pairs.texts == [("a", 'b, "c"'), ("d", "e")]
        assert pairs.labels.tolist() == [1, 0]
        assert pairs.labels.dtype == np.int64
        assert pairs.tags == {"id": ["1", "2"]}
        assert pairs.notes == ("texts from columns 'left' and 'right' of pairs.data", "labels from column 'label'")

    def test_parquet(self, tmp_path):
        pytest.importorskip("pyarrow")
        columns = {"id": ["1", "2"], "left": ["a", "d"], "right": ['b, "c"', None], "label": [1, 0]}
        path = write(tmp_path / "pairs.data", parquet_bytes({name: (own, None) for name, own in columns.items()}))
        with pytest.raises(DataError, match=r"pairs\.data, row 1, column 'right': the text is missing"):
            read_pairs(path)
        columns["right"][1] = "e"
        write(path, parquet_bytes({name: (own, None) for name, own in columns.items()}))
        pairs = read_pairs(path)
        assert (pairs.texts, pairs.labels.tolist()) == ([("a", 'b, "c"'), ("d", "e")], [1, 0])
        assert pairs.tags == {"id": ["1", "2"]}

    def test_an_array_is_no_text(self, tmp_path):
        np.save(tmp_path / "a.npy", np.array([-1.5, 2.0]))
        with pytest.raises(DataError, match=r"a\.npy: this is a NumPy array, no text; expected lines of text$"):
            read_pairs(tmp_path / "a.npy")

    @pytest.mark.parametrize(
        ("header", "chosen"),
        [
            ("idx\tour side\ttheir side", ("our side", "their side")),
            ("qid1\tqid2\tquestion1\tquestion2", ("question1", "question2")),
            ("genre\tpremise\thypothesis", ("premise", "hypothesis")),
            ("score\tlabel\ta\tb", ("a", "b")),
            ("document\tquery", ("query", "document")),
        ],
    )
    def test_which_columns(self, tmp_path, header, chosen):
        names = header.split("\t")
        path = write(tmp_path / "a.tsv", header + "\n" + "\t".join("1" for _ in names) + "\n")
        assert f"texts from columns {chosen[0]!r} and {chosen[1]!r}" in read_pairs(path).notes[0]

    def test_named_columns(self, tmp_path):
        path = write(tmp_path / "a.tsv", "sentence1\tsentence2\tid\na\tb\tc\n")
        assert read_pairs(path, columns=["id", "sentence1"]).texts == [("c", "a")]
        for columns in (["id"], ["id", "text"], "id", ["id", "sentence1", "sentence2"]):
            with pytest.raises(DataError, match="expected two of sentence1, sentence2, id"):
                read_pairs(path, columns=columns)

    def test_numbers_in_json_are_no_texts(self, tmp_path):
        path = write_jsonl(tmp_path / "a.jsonl", [{"year": 2015, "a": "x", "weight": 0.5, "b": "y"}])
        assert read_pairs(path).texts == [("x", "y")]

    def test_a_file_without_a_header(self, tmp_path):
        path = write(tmp_path / "a.tsv", "A cat sleeps.\tA cat naps.\nIt rains.\tIt pours.\n")
        with pytest.raises(DataError, match=r"a\.tsv, line 1: 'A cat sleeps\.' looks like a text, not the name"):
            read_pairs(path)

    def test_one_text_column(self, tmp_path):
        with pytest.raises(DataError, match=r"a pair needs two text columns; found \['text'\] among text, label"):
            read_pairs(write(tmp_path / "a.tsv", "text\tlabel\na\t1\n"))

    def test_no_rows(self, tmp_path):
        for content in ("", "left\tright\n"):
            with pytest.raises(DataError, match="has no rows"):
                read_pairs(write(tmp_path / "a.tsv", content))

    def test_labels(self, tmp_path):
        def labels(*values):
            rows = [{"left": "a", "right": "b", "label": value} for value in values]
            return read_pairs(write_jsonl(tmp_path / "a.jsonl", rows)).labels

        assert labels(0.5, 1).tolist() == [0.5, 1.0]
        assert labels(0.5, 1).dtype == np.float32
        assert labels([1, 0, 0], [0, 0, 1]).shape == (2, 3)
        with pytest.raises(
            DataError, match=r"a\.jsonl, line 2, column 'label': the rows before it have another number"
        ):
            labels([1, 0], [1])
        with pytest.raises(DataError, match=r"a\.jsonl, line 2, column 'label': the label is None"):
            labels(1, None)
        with pytest.raises(DataError, match=r"a\.jsonl, line 2, column 'label': expected a number, got 'neutral'"):
            labels(1, "neutral")

    def test_names_as_labels_are_a_tag(self, tmp_path):
        rows = [{"premise": "a", "hypothesis": "b", "label": name} for name in ("entailment", "-")]
        pairs = read_pairs(write_jsonl(tmp_path / "a.jsonl", rows))
        assert pairs.labels is None
        assert pairs.tags == {"label": ["entailment", "-"]}
        assert "'label' holds names, not numbers: kept as a tag" in pairs.notes

    def test_a_second_target_is_a_tag(self, tmp_path):
        pairs = read_pairs(write_jsonl(tmp_path / "a.jsonl", [{"left": "a", "right": "b", "score": 0.3, "label": 1}]))
        assert pairs.labels.tolist() == [1]
        assert pairs.tags == {"score": [0.3]}

    @settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.lists(st.tuples(st.text(), st.text(), st.integers(0, 5)), min_size=1))
    def test_what_is_written_is_what_is_read(self, tmp_path, rows):
        path = write_jsonl(tmp_path / "a.jsonl", [{"left": a, "right": b, "label": n} for a, b, n in rows])
        assert read_pairs(path).fingerprint() == as_pairs(rows).fingerprint()


@needs_public_data
class TestPublicData:
    @pytest.mark.parametrize(("split", "count"), [("train", 5749), ("dev", 1500), ("validation", 1500), ("test", 1379)])
    def test_published_counts(self, split, count):
        pairs = read_sts(PUBLIC_DATA, split)
        assert len(pairs) == pairs.num_pairs == count
        assert pairs.labels.min() == 0
        assert pairs.labels.max() == 1
        assert pairs.notes[0].startswith("from stsb/")

    def test_against_plain_json_and_datasets(self):
        path = PUBLIC_DATA / "stsb" / "test.jsonl.gz"
        with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
            rows = [json.loads(line) for line in file]
        ours = read_sts(PUBLIC_DATA, "test")
        assert ours.texts == [(row["sentence1"], row["sentence2"]) for row in rows]
        np.testing.assert_allclose(ours.labels * 5, [row["score"] for row in rows], rtol=1e-6)
        assert ours.fingerprint() == read_sts(datasets.Dataset.from_list(rows)).fingerprint()

    def test_through_the_publishers_form(self, tmp_path):
        ours = read_sts(PUBLIC_DATA, "train")
        lines = (
            f"g\tf\ty\t{i}\t{label * 5!r}\t{left}\t{right}\n"
            for i, ((left, right), label) in enumerate(zip(ours.texts, ours.labels.tolist(), strict=True))
        )
        assert any('"' in text for text in ours.left)  # else this would show nothing
        again = read_sts(write(tmp_path / "sts-train.csv", "".join(lines)))
        assert again.texts == ours.texts
        np.testing.assert_allclose(again.labels, ours.labels, rtol=1e-6)


class TestSampleData:
    @pytest.fixture(autouse=True)
    def shipped(self, monkeypatch):
        monkeypatch.delenv("CROSSENC_KIT_DATA", raising=False)

    @pytest.mark.parametrize(("split", "least"), [("train", 600), ("dev", 150), ("test", 150)])
    def test_the_shipped_samples_are_read(self, split, least):
        pairs = read_sts(split=split)
        assert len(pairs) >= least
        assert {"phenomenon", "domain"} <= set(pairs.tags)
        assert pairs.labels.max() == 1
        assert set((pairs.labels * 10).round().astype(int)) <= set(range(11))  # half steps of 0 to 5
        assert pairs.notes[1] == "scores 0 to 5 divided by 5: labels 0 to 1"
