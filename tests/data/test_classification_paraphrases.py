"""Duplicate questions, paraphrases and answers in their published forms, and public data in full."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import warnings
from pathlib import Path

import datasets
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small import NAMES, tsv, write

from crossenc_kit.data.classification import read_duplicates, read_mrpc, read_nli, read_qnli
from crossenc_kit.data.pairs import as_pairs
from crossenc_kit.errors import DataError
from crossenc_kit.files import write_jsonl

PUBLIC_DATA = Path(os.environ.get("CROSSENC_KIT_DATA") or "not set")
needs_public_data = pytest.mark.skipif(
    not (PUBLIC_DATA / "snli").is_dir(), reason="no public data: set CROSSENC_KIT_DATA to a folder with nli/ and snli/"
)

# --- duplicate questions --------------------------------------------------------------------------


QUORA_HEADER = ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"]
QUESTIONS = [
    ("How do I cook rice?", "How is rice cooked?", 1),
    ('What is "x"?', "What\tis y?", 0),  # quoted in the file
    ("Is it late?", '"', 0),
    ("NA", "null", 1),
]


def quora(rows=QUESTIONS, header=QUORA_HEADER):
    """Quora's file: a text with a quote, a tab or a line break is quoted."""
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
    writer.writerow(header)
    writer.writerows([i, 2 * i, 2 * i + 1, *row] for i, row in enumerate(rows))
    return stream.getvalue()


def check_duplicates(pairs, rows=QUESTIONS):
    assert pairs.texts == [row[:2] for row in rows]
    assert pairs.labels.tolist() == [row[2] for row in rows]
    assert pairs.labels.dtype == np.int64
    assert pairs.label_names == ("not duplicate", "duplicate")


class TestDuplicates:
    def test_quoras_file(self, tmp_path):
        write(tmp_path / "quora/quora_duplicate_questions.tsv", quora())
        pairs = read_duplicates(tmp_path)
        check_duplicates(pairs)
        assert pairs.tags == {"id": list("0123"), "qid1": list("0246"), "qid2": list("1357")}
        assert pairs.notes == (
            "from quora/quora_duplicate_questions.tsv",
            "labels: 2 not duplicate, 2 duplicate",
            "numbers read as 0 not duplicate, 1 duplicate",
        )
        with pytest.raises(DataError, match=r"no split 'dev': .*there is quora_duplicate_questions\.tsv"):
            read_duplicates(tmp_path, "dev")  # all of it is train

    def test_the_same_file_with_line_ends_of_windows(self, tmp_path):
        path = write(tmp_path / "train.tsv", "\ufeff" + quora().replace("\n", "\r\n"))
        check_duplicates(read_duplicates(path))

    def test_a_row_with_a_line_break_is_broken_and_takes_no_other_along(self, tmp_path):
        """In GLUE the two lines of such a row even stand apart, and its quote stays open."""
        lines = quora([*QUESTIONS, ("Is it\nlate?", '"', 0)]).rstrip("\n").split("\n")
        *whole, first, last = lines
        assert (first, last) == ('4\t8\t9\t"Is it', 'late?"\t""""\t0')
        order = [whole[0], last, *whole[1:3], first, *whole[3:]]
        pairs = read_duplicates(write(tmp_path / "QQP/train.tsv", "\n".join(order)).parent)
        check_duplicates(pairs)
        assert "broken rows dropped: 2, the first at line 2" in pairs.notes

    @pytest.mark.parametrize(
        "broken",
        ["9\t9\t9\tWhat?\t", "9\t9\t9\t\tWhat?\t0", "9\t9\t9\tWhat?\tHow?\t", "9\t9\t9\ta\tb\tc\t0", "9\t9\t9"],
    )
    def test_rows_with_too_little_or_too_much_are_counted_and_dropped(self, tmp_path, broken):
        path = write(tmp_path / "train.tsv", quora() + broken + "\n")
        pairs = read_duplicates(path)
        check_duplicates(pairs)
        assert "broken rows dropped: 1, the first at line 6" in pairs.notes

    def test_quotes_that_are_only_characters(self, tmp_path):
        rows = [('"Hello', "who's that?", "0"), ('"What" is it?', 'He said: "', "1"), ('"a', 'b"', "0")]
        content = tsv(QUORA_HEADER, [[i, i, i, *row] for i, row in enumerate(rows)])
        check_duplicates(read_duplicates(write(tmp_path / "dev.tsv", content)), [(a, b, int(n)) for a, b, n in rows])

    def test_ids_that_are_no_numbers(self, tmp_path):
        content = tsv(QUORA_HEADER, [[f"q{i}", "x", "y", *row] for i, row in enumerate([QUESTIONS[0], QUESTIONS[3]])])
        check_duplicates(read_duplicates(write(tmp_path / "train.tsv", content)), [QUESTIONS[0], QUESTIONS[3]])

    def test_a_label_that_is_no_class(self, tmp_path):
        path = write(tmp_path / "train.tsv", quora().replace("cooked?\t1", "cooked?\t2"))
        with pytest.raises(
            DataError, match=r"train\.tsv, line 2, column 'is_duplicate': the label is 2; expected 0 to 1"
        ):
            read_duplicates(path)

    def test_glues_test_file_is_unlabelled(self, tmp_path):
        content = tsv(["id", "question1", "question2"], [[0, "a", "b"], [1, '"c ""d"""', "e"]])
        pairs = read_duplicates(write(tmp_path / "test.tsv", content).parent, "test")
        assert pairs.texts == [("a", "b"), ('c "d"', "e")]
        assert pairs.labels is None

    def test_the_kits_own_form(self, tmp_path):
        rows = [{"text1": a, "text2": b, "label": n} for a, b, n in QUESTIONS]
        write_jsonl(write(tmp_path / "duplicates/x", "").parent / "train.jsonl.gz", rows)
        check_duplicates(read_duplicates(tmp_path))
        path = write_jsonl(tmp_path / "a.jsonl", [rows[0], {**rows[1], "text2": ""}])
        with pytest.raises(DataError, match=r"a\.jsonl, line 2, column 'text2': the text is empty"):
            read_duplicates(path)  # nobody published this one: not dropped in silence

    @pytest.mark.parametrize(
        ("columns", "classes", "name", "config"),
        [
            (("sentence1", "sentence2"), None, "sentence-transformers/quora-duplicates", "pair-class"),
            (("question1", "question2"), ["not_duplicate", "duplicate"], "nyu-mll/glue", "qqp"),
        ],
    )
    def test_the_hub(self, monkeypatch, columns, classes, name, config):
        rows = [
            dict(zip((*columns, "label"), row, strict=True)) for row in [*QUESTIONS, ("Why?", "", 0), (None, "", 0)]
        ]
        data = datasets.Dataset.from_list(rows)
        if classes:
            data = data.cast_column("label", datasets.ClassLabel(names=classes))
        hub = {(name, config): datasets.DatasetDict({"train": data})}
        monkeypatch.setattr(datasets, "load_dataset", lambda *words: hub[words])
        pairs = read_duplicates(name)
        check_duplicates(pairs)
        assert "broken rows dropped: 2, the first at row 4" in pairs.notes

    @settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.lists(st.tuples(st.text('ab"\t ?'), st.text('a"\t'), st.sampled_from([0, 1])), min_size=1))
    def test_reading_agrees_with_pythons_csv(self, tmp_path, rows):
        content = quora([("x" + a + "y", b + "z", n) for a, b, n in rows])
        expected = list(csv.reader(io.StringIO(content, newline=""), delimiter="\t"))[1:]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pairs = read_duplicates(write(tmp_path / "train.tsv", content))
        assert pairs.texts == [(row[3], row[4]) for row in expected]
        assert pairs.labels.tolist() == [int(row[5]) for row in expected]


# --- paraphrases, answers ---------------------------------------------------------------------------


class TestMrpcAndQnli:
    @pytest.mark.parametrize("name", ["mrpc/msr_paraphrase_train.txt", "MRPC/train.tsv", "msr_paraphrase_train.txt"])
    def test_mrpc(self, tmp_path, name):
        rows = [[1, 10, 11, 'He said "no".', '"No, he said.'], [0, 12, 13, '"A"', "NA"]]
        content = "\ufeff" + tsv(["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"], rows).replace("\n", "\r\n")
        write(tmp_path / name, content)
        pairs = read_mrpc(tmp_path)
        assert pairs.texts == [('He said "no".', '"No, he said.'), ('"A"', "NA")]
        assert pairs.labels.tolist() == [1, 0]
        assert pairs.label_names == ("not_equivalent", "equivalent")
        assert pairs.tags == {"#1 ID": ["10", "12"], "#2 ID": ["11", "13"]}

    def test_mrpc_has_no_dev_split_of_its_own(self, tmp_path):
        for split in ("train", "test"):
            write(tmp_path / f"msr_paraphrase_{split}.txt", "")
        with pytest.raises(DataError, match=r"no split 'dev': .*; there is msr_paraphrase_test\.txt, msr_par"):
            read_mrpc(tmp_path, "dev")

    def test_an_empty_text_of_mrpc(self, tmp_path):
        content = tsv(["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"], [[1, 2, 3, "a", ""]])
        with pytest.raises(DataError, match=r"train\.tsv, line 2, column '#2 String': the text is empty"):
            read_mrpc(write(tmp_path / "train.tsv", content))

    def test_qnli(self, tmp_path):
        rows = [[0, 'Who is "he"?', "A man.", "not_entailment"], [1, "When?", '"In 1900.', "entailment"]]
        write(tmp_path / "QNLI/dev.tsv", tsv(["index", "question", "sentence", "label"], rows))
        pairs = read_qnli(tmp_path, "dev")
        assert pairs.texts == [('Who is "he"?', "A man."), ("When?", '"In 1900.')]
        assert pairs.labels.tolist() == [1, 0]
        assert pairs.label_names == ("entailment", "not_entailment")
        assert pairs.tags == {"index": ["0", "1"]}

    @pytest.mark.parametrize(
        ("read", "config", "columns", "classes"),
        [
            (read_mrpc, "mrpc", ("sentence1", "sentence2"), ["not_equivalent", "equivalent"]),
            (read_qnli, "qnli", ("question", "sentence"), ["entailment", "not_entailment"]),
        ],
    )
    def test_glue_on_the_hub(self, monkeypatch, read, config, columns, classes):
        rows = [dict(zip((*columns, "label", "idx"), ("a", f"b{n}", n, n), strict=True)) for n in (0, 1)]
        data = datasets.Dataset.from_list(rows).cast_column("label", datasets.ClassLabel(names=classes))
        hub = {("nyu-mll/glue", config): datasets.DatasetDict({"validation": data})}
        monkeypatch.setattr(datasets, "load_dataset", lambda *words: hub[words])
        pairs = read("nyu-mll/glue", "dev")
        assert pairs.label_names == tuple(classes)
        assert pairs.labels.tolist() == [0, 1]
        assert pairs.fingerprint() == as_pairs(data.remove_columns("idx")).fingerprint()


@needs_public_data
class TestPublicData:
    @pytest.mark.parametrize(
        ("folder", "split", "counts"),
        [
            ("", "test", {"entailment": 3479, "neutral": 3123, "contradiction": 3213}),
            ("nli", "test", {"entailment": 3479, "neutral": 3123, "contradiction": 3213}),
            ("snli", "dev", {"entailment": 3329, "neutral": 3235, "contradiction": 3278}),
        ],
    )
    def test_published_counts_of_nli(self, folder, split, counts):
        pairs = read_nli(PUBLIC_DATA / folder, split)
        assert len(pairs) == sum(counts.values())
        assert {name: (pairs.labels == i).sum() for i, name in enumerate(NAMES)} == counts

    def test_duplicates(self):
        pairs = read_duplicates(PUBLIC_DATA)
        assert len(pairs) == 15_208
        assert pairs.labels.mean() == pytest.approx(0.374, abs=0.0005)

    def test_against_plain_json(self):
        with gzip.open(PUBLIC_DATA / "nli" / "test.jsonl.gz", "rt", encoding="utf-8", newline="\n") as file:
            rows = [json.loads(line) for line in file]
        pairs = read_nli(PUBLIC_DATA, "test")
        assert pairs.texts == [(row["premise"], row["hypothesis"]) for row in rows]
        assert [NAMES[i] for i in pairs.labels] == [row["label"] for row in rows]

    def test_through_the_publishers_forms(self, tmp_path):
        nli, questions = read_nli(PUBLIC_DATA / "snli", "dev"), read_duplicates(PUBLIC_DATA, "test")
        header = ["gold_label", "sentence1", "sentence2", "label1", "label2"]
        rows = [[NAMES[i], *texts, NAMES[i]] for texts, i in zip(nli.texts, nli.labels, strict=True)]
        again = read_nli(write(tmp_path / "snli_1.0_dev.txt", tsv(header, rows)))
        assert again.fingerprint() == nli.fingerprint()
        rows = [(*texts, n) for texts, n in zip(questions.texts, questions.labels.tolist(), strict=True)]
        assert any('"' in text for text in questions.left)  # else this would show nothing
        again = read_duplicates(write(tmp_path / "train.tsv", quora(rows)))
        assert again.fingerprint() == questions.fingerprint()
