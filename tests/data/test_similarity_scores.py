"""The scaling of STS scores, rows that cannot be used, and the public data and shipped samples in full."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import datasets
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import STS_GLUE, STS_PUBLISHED, STS_ROWS, write

from crossenc_kit.data.similarity import read_sts
from crossenc_kit.errors import DataError
from crossenc_kit.files import write_jsonl

PUBLIC_DATA = Path(os.environ.get("CROSSENC_KIT_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data")
needs_public_data = pytest.mark.skipif(
    not (PUBLIC_DATA / "stsb").is_dir(), reason="no public data: set CROSSENC_KIT_TEST_DATA to a folder with stsb/"
)


class TestStsScores:
    def with_scores(self, *scores):
        return [{**STS_ROWS[0], "score": score} for score in scores]

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
        path = write(tmp_path / "sts-train.csv", STS_PUBLISHED.replace("2.000", score))
        with pytest.raises(
            DataError, match=rf"sts-train\.csv, line 2, column 'score': the score is {said}, outside 0 to 5;"
        ):
            read_sts(path)

    def test_every_row_out_of_range_is_counted(self):
        with pytest.raises(DataError, match=r"row 1, column 'score': the score is 50, outside 0 to 5 \(and 1 more\)"):
            read_sts(self.with_scores(5, 50, 100))

    @pytest.mark.parametrize("score", ["nan", "inf", "", "high", "4,5"])
    def test_no_number(self, tmp_path, score):
        path = write(tmp_path / "train.tsv", STS_GLUE.replace("2.000", score))
        with pytest.raises(DataError, match=r"train\.tsv, line 3, column 'score'"):
            read_sts(path)

    @pytest.mark.parametrize("score", [None, float("nan"), [1.0, 2.0], []])
    def test_no_number_in_json(self, score):
        with pytest.raises(DataError, match=r"row 1, column 'score'"):
            read_sts([STS_ROWS[0], {**STS_ROWS[1], "score": score}])

    def test_a_list_of_scores(self):
        with pytest.raises(DataError, match="expected one score a pair, got 2"):
            read_sts(self.with_scores([1.0, 2.0], [0.0, 1.0]))

    def test_hidden_and_missing_scores_are_unlabelled(self, tmp_path):
        cut = "\n".join(line.rsplit("\t", 1)[0] for line in STS_GLUE.split("\n"))  # STS_GLUE's test.tsv has no score
        pairs = read_sts(write(tmp_path / "test.tsv", cut), "test")
        assert pairs.labels is None
        assert "no score column: unlabelled" in pairs.notes
        pairs = read_sts(self.with_scores(-1, -1))
        assert pairs.labels is None
        assert "hidden labels" in pairs.notes[1]

    @pytest.mark.parametrize("highest", [0, -5])
    def test_highest(self, highest):
        with pytest.raises(ValueError, match="highest is"):
            read_sts(STS_ROWS, highest=highest)


class TestStsRows:
    @pytest.mark.parametrize(
        ("column", "text", "message"),
        [("sentence2", None, "the text is missing"), ("sentence1", 7, "expected a string, got int")],
    )
    def test_what_is_no_text(self, tmp_path, column, text, message):
        path = write_jsonl(tmp_path / "train.jsonl", [STS_ROWS[0], {**STS_ROWS[1], column: text}])
        with pytest.raises(DataError, match=rf"train\.jsonl, line 2, column '{column}': {message}"):
            read_sts(path)

    def test_a_missing_column(self, tmp_path):
        path = write(tmp_path / "train.tsv", "text1\ttext2\tscore\na\tb\t1\n")
        with pytest.raises(DataError, match="no column sentence1 or sentence2; the columns are text1, text2, score"):
            read_sts(path)

    def test_a_row_cut_short(self, tmp_path):
        path = write(tmp_path / "sts-train.csv", STS_PUBLISHED + "main-news\theadlines\t2015\n")
        with pytest.raises(DataError, match=r"sts-train\.csv, line 4: 3 columns, expected 7 \(genre, .*sentence2\)"):
            read_sts(path)


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
