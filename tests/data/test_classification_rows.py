"""Splits of NLI data, and what is said of rows that cannot be used."""

from __future__ import annotations

import datasets
import pytest
from small import GLUE_MNLI, NAMES, OWN, OWN_ROWS, PUBLISHED, SNLI_TXT, TEXTS, jsonl, tsv, write

from crossenc_kit.data.classification import read_nli
from crossenc_kit.errors import DataError


class TestSplits:
    @pytest.mark.parametrize(
        ("split", "first"),
        [
            ("train", "train"),
            ("dev", "dev_matched"),
            ("validation", "dev_matched"),
            ("matched", "dev_matched"),
            ("validation_matched", "dev_matched"),
            ("mismatched", "dev_mismatched"),
            ("dev_mismatched", "dev_mismatched"),
            ("test", "test_matched"),
            ("test_mismatched", "test_mismatched"),
        ],
    )
    @pytest.mark.parametrize("form", ["MNLI/{}.tsv", "multinli_1.0/multinli_1.0_{}.jsonl"])
    def test_the_splits_of_multinli(self, tmp_path, form, split, first):
        for stem in ("train", "dev_matched", "dev_mismatched", "test_matched", "test_mismatched"):
            rows = [{"sentence1": stem, "sentence2": "b", "gold_label": "neutral"}]
            content = jsonl(rows) if form.endswith("jsonl") else tsv(rows[0], [rows[0].values()])
            write(tmp_path / form.format(stem), content)
        assert read_nli(tmp_path, split).left == [first]

    def test_the_splits_of_a_dictionary(self):
        names = ["train", "validation_matched", "validation_mismatched"]
        data = datasets.DatasetDict(
            {name: datasets.Dataset.from_list([{**OWN_ROWS[0], "premise": name}]) for name in names}
        )
        for split, name in [("train", "train"), ("dev", names[1]), ("matched", names[1]), ("mismatched", names[2])]:
            assert read_nli(data, split).left == [name]
        with pytest.raises(DataError, match="the data set has no split 'test'; it has train, validation_matched, "):
            read_nli(data, "test")

    def test_a_missing_split_lists_what_there_is(self, tmp_path):
        write(tmp_path / "snli/dev.jsonl", OWN)
        write(tmp_path / "snli/snli_1.0_test.txt.gz", OWN)
        write(tmp_path / "snli/readme.md", "")
        there = r"; there is dev\.jsonl, snli_1\.0_test\.txt\.gz$"
        with pytest.raises(DataError, match=r"snli has no split 'train': looked for train\.jsonl, .*" + there):
            read_nli(tmp_path)
        with pytest.raises(DataError, match=r"no split 'dev_mismatched': .* \(or validation_mismatched\); there is"):
            read_nli(tmp_path, "mismatched")

    def test_a_test_split_may_have_no_labels_and_a_training_split_may_not(self, tmp_path):
        cut = "\n".join(line.rsplit("\t", 2)[0] for line in GLUE_MNLI.split("\n"))
        pairs = read_nli(write(tmp_path / "test_matched.tsv", cut).parent, "test")
        assert pairs.labels is None
        assert pairs.texts == TEXTS
        assert pairs.label_names == NAMES
        assert "no gold labels: unlabelled" in pairs.notes
        with pytest.raises(DataError, match=r"train\.tsv: no column gold_label or label; the columns are index, "):
            read_nli(write(tmp_path / "train.tsv", cut))

    @pytest.mark.parametrize("hidden", ["-", "hidden", -1])
    def test_a_split_without_any_gold_label_is_unlabelled(self, hidden):
        pairs = read_nli([{**row, "label": hidden} for row in OWN_ROWS])
        assert pairs.labels is None
        assert len(pairs) == 4


class TestNliRows:
    @pytest.mark.parametrize("empty", ["", " ", "\u00a0"])
    @pytest.mark.parametrize("column", ["premise", "hypothesis"])
    def test_an_empty_text(self, tmp_path, column, empty):
        path = write(tmp_path / "train.jsonl", jsonl([OWN_ROWS[0], {**OWN_ROWS[1], column: empty}]))
        with pytest.raises(
            DataError, match=rf"train\.jsonl, line 2, column '{column}': the text is empty; drop the row"
        ):
            read_nli(path)

    @pytest.mark.parametrize("label", ["contradictory", "", None, 0.5, ["neutral"], float("nan")])
    def test_a_label_that_is_no_class(self, tmp_path, label):
        path = write(tmp_path / "train.jsonl", jsonl([OWN_ROWS[0], {**OWN_ROWS[1], "label": label}]))
        with pytest.raises(
            DataError,
            match=r"train\.jsonl, line 2, column 'label': the label is .*expected one of contradiction, entail",
        ):
            read_nli(path)

    @pytest.mark.parametrize("label", [0, "1", 2.0])
    def test_numbers_in_a_file_are_ambiguous(self, tmp_path, label):
        path = write(tmp_path / "train.jsonl", jsonl([OWN_ROWS[0], {**OWN_ROWS[1], "label": label}]))
        with pytest.raises(
            DataError,
            match=r"train\.jsonl, line 2, column 'label': the label is the number \d, and nothing here says .*"
            r"classes=\('entailment', 'neutral', 'contradiction'\)",
        ):
            read_nli(path)

    def test_numbers_in_a_file_with_their_order(self, tmp_path):
        rows = [{**OWN_ROWS[0], "label": label} for label in (0, "1", 2.0, -1, "-1")]
        rows = [{**row, "hypothesis": f"{i}"} for i, row in enumerate(rows)]
        pairs = read_nli(
            write(tmp_path / "train.jsonl", jsonl(rows)), classes=("neutral", "entailment", "contradiction")
        )
        assert [NAMES[i] for i in pairs.labels] == ["neutral", "entailment", "contradiction"]
        assert "numbers read as 0 neutral, 1 entailment, 2 contradiction" in pairs.notes
        assert "rows without a gold label dropped: 2" in pairs.notes

    @pytest.mark.parametrize("label", [3, -2])
    def test_a_number_of_no_class(self, label):
        with pytest.raises(
            DataError, match=rf"row 0, column 'label': the label is {label}; expected 0 to 2 \(entailment"
        ):
            read_nli([{**OWN_ROWS[0], "label": label}], classes=PUBLISHED)

    def test_columns_of_something_else(self, tmp_path):
        path = write(tmp_path / "train.jsonl", jsonl([{"text1": "a", "text2": "b", "label": "neutral"}]))
        with pytest.raises(
            DataError,
            match=r"no columns premise, hypothesis or sentence1, sentence2; the columns are text1, text2, label",
        ):
            read_nli(path)

    @pytest.mark.parametrize("form", [SNLI_TXT, GLUE_MNLI])
    def test_a_row_cut_short_or_with_a_tab_too_many(self, tmp_path, form):
        lines = form.split("\n")
        with pytest.raises(DataError, match=r"train\.tsv, line 3: 6 columns, expected "):
            read_nli(write(tmp_path / "train.tsv", "\n".join([*lines[:2], "\t".join(lines[2].split("\t")[:6])])))
        with pytest.raises(DataError, match=r"train\.tsv, line 2: \d+ columns, expected "):
            read_nli(write(tmp_path / "train.tsv", "\n".join([lines[0], lines[1].replace("A cat", "A\tcat") + "\tx"])))

    def test_one_pair_with_two_labels(self, tmp_path):
        rows = [*OWN_ROWS[:2], {**OWN_ROWS[0], "label": "neutral"}, OWN_ROWS[1], {**OWN_ROWS[0], "label": "neutral"}]
        path = write(tmp_path / "train.jsonl", jsonl(rows))
        said = r"pairs that come with different labels: 1, the first at line 1 \(entailment\) and line 3 \(neutral\)"
        with pytest.warns(UserWarning, match=rf"/train\.jsonl: {said}: 'A cat") as caught:
            pairs = read_nli(path)
        assert caught[0].filename == __file__
        assert len(caught) == 1
        assert len(pairs) == 5
        assert any(
            "line 1 (entailment) and line 3 (neutral): 'A cat sleeps.', \"It's a cat.\"" in n for n in pairs.notes
        )

    @pytest.mark.filterwarnings("error")
    def test_repeated_pairs_with_one_label_and_rows_without_a_label_do_not_warn(self):
        assert len(read_nli([OWN_ROWS[0], OWN_ROWS[0], {**OWN_ROWS[0], "label": "-"}])) == 2
