"""Pairs with classes in their published forms, and what is said of rows that cannot be used."""

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

from crossenc_kit.label_readers import read_duplicates, read_mrpc, read_nli, read_qnli
from crossenc_kit.pairs import DataError, as_pairs
from crossenc_kit.tables import write_jsonl

PUBLIC_DATA = Path(os.environ.get("CROSSENC_KIT_DATA") or "not set")
needs_public_data = pytest.mark.skipif(
    not (PUBLIC_DATA / "snli").is_dir(), reason="no public data: set CROSSENC_KIT_DATA to a folder with nli/ and snli/"
)

NAMES = ("contradiction", "entailment", "neutral")
PUBLISHED = ("entailment", "neutral", "contradiction")  # 0, 1, 2 on the hub
TEXTS = [("A cat sleeps.", "It's a cat."), ('"Well, he left.', "n/a"), ("null", "one\u2028two\x85three"), ("NA", "nan")]
LABELS = ["entailment", "contradiction", "neutral", "-"]
INDICES = [1, 0, 2]


def jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def tsv(header, rows):
    return "\n".join("\t".join(map(str, row)) for row in [header, *rows]) + "\n"


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


EXAMPLES = [(left, right, label) for (left, right), label in zip(TEXTS, LABELS, strict=True)]
SNLI_JSONL = jsonl(
    {
        "annotator_labels": [label],
        "captionID": f"{i}.jpg",
        "gold_label": label,
        "sentence1": left,
        "sentence1_parse": "(ROOT)",
        "sentence2": right,
    }
    for i, (left, right, label) in enumerate(EXAMPLES)
)
TREES = ["sentence1_binary_parse", "sentence2_binary_parse", "sentence1_parse", "sentence2_parse"]
SNLI_TXT = tsv(
    ["gold_label", *TREES, "sentence1", "sentence2", "captionID", "pairID", *(f"label{i}" for i in range(1, 6))],
    [[label, *["( x )"] * 4, left, right, "1", "1r1e", label, *[""] * 4] for left, right, label in EXAMPLES],
)
MULTINLI_TXT = tsv(
    [
        "gold_label",
        *TREES,
        "sentence1",
        "sentence2",
        "promptID",
        "pairID",
        "genre",
        *(f"label{i}" for i in range(1, 6)),
    ],
    [[label, *["( x )"] * 4, left, right, "1", "1e", "fiction", label] for left, right, label in EXAMPLES],  # cut short
)
GLUE_MNLI = tsv(
    ["index", "promptID", "pairID", "genre", *TREES, "sentence1", "sentence2", "label1", "gold_label"],
    [
        [i, 1, "1e", "fiction", *["( x )"] * 4, left, right, "-", label]
        for i, (left, right, label) in enumerate(EXAMPLES)
    ],
)
OWN_ROWS = [{"premise": left, "hypothesis": right, "label": label} for left, right, label in EXAMPLES]
OWN = jsonl(OWN_ROWS)
NLI_FORMS = {
    "nli/train.jsonl": OWN,
    "nli/train.jsonl.gz": gzip.compress(OWN.encode()),
    "snli_1.0/snli_1.0_train.jsonl": SNLI_JSONL,
    "snli_1.0/snli_1.0_train.txt": SNLI_TXT,
    "multinli_1.0/multinli_1.0_train.jsonl": SNLI_JSONL,
    "multinli_1.0/multinli_1.0_train.txt": MULTINLI_TXT,
    "MNLI/train.tsv": GLUE_MNLI,
    "snli/snli_1.0_train.txt.gz": gzip.compress(SNLI_TXT.encode()),
    "snli_1.0_train.txt": "\ufeff" + SNLI_TXT.replace("\n", "\r\n"),
    "train.tsv": "\ufeff" + GLUE_MNLI.replace("\n", "\r\n"),
}


def check_nli(pairs):
    assert pairs.texts == TEXTS[:3]
    assert pairs.labels.tolist() == INDICES
    assert pairs.labels.dtype == np.int64
    assert pairs.label_names == NAMES
    assert "labels: 1 contradiction, 1 entailment, 1 neutral" in pairs.notes
    assert "rows without a gold label dropped: 1" in pairs.notes


class TestNliForms:
    @pytest.mark.parametrize("name", NLI_FORMS)
    def test_every_published_form_gives_the_same_pairs(self, tmp_path, name):
        path = write(tmp_path / name, NLI_FORMS[name])
        for source in (tmp_path, str(path.parent), path):
            check_nli(read_nli(source))
        assert read_nli(tmp_path).notes[0] == f"from {path.parent.name}/{path.name}"
        assert str(tmp_path) not in " ".join(read_nli(tmp_path).notes)

    def test_from_the_environment(self, tmp_path, monkeypatch):
        write(tmp_path / "nli/train.jsonl", OWN)
        monkeypatch.setenv("CROSSENC_KIT_DATA", str(tmp_path))
        check_nli(read_nli())

    def test_a_csv_file(self, tmp_path):
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerows([["premise", "hypothesis", "label"], *EXAMPLES])
        check_nli(read_nli(write(tmp_path / "pairs.csv", stream.getvalue())))

    def test_another_order_of_the_classes(self, tmp_path):
        pairs = read_nli(write(tmp_path / "train.jsonl", OWN), label_names=PUBLISHED)
        assert pairs.labels.tolist() == [0, 2, 1]
        assert pairs.label_names == PUBLISHED
        renumbered = read_nli(tmp_path).with_label_names(PUBLISHED)
        assert renumbered.fingerprint() == pairs.fingerprint()

    def test_case_spaces_and_underscores_of_a_name_do_not_matter(self):
        assert read_nli([{**OWN_ROWS[0], "label": " Entailment"}]).labels.tolist() == [1]

    def test_other_columns_become_tags_but_not_the_trees(self, tmp_path):
        pairs = read_nli(write(tmp_path / "multinli_1.0_train.txt", MULTINLI_TXT))
        assert list(pairs.tags) == ["promptID", "pairID", "genre", *(f"label{i}" for i in range(1, 6))]
        assert pairs.tags["genre"] == ["fiction"] * 3
        assert pairs.tags["label1"] == LABELS[:3]
        assert pairs.tags["label5"] == [""] * 3
        assert f"left out: {', '.join(TREES)}" in pairs.notes
        pairs = read_nli(write(tmp_path / "snli_1.0_train.jsonl", SNLI_JSONL))
        assert pairs.tags == {
            "annotator_labels": [[label] for label in LABELS[:3]],
            "captionID": ["0.jpg", "1.jpg", "2.jpg"],
        }

    def test_latin_1(self, tmp_path):
        path = write(tmp_path / "a.tsv", "premise\thypothesis\tlabel\nCaf\u00e9\tb\tneutral\n".encode("latin-1"))
        with pytest.raises(DataError, match=r"a\.tsv, line 2: 0xe9 \(byte 4\) is not utf-8.*latin-1"):
            read_nli(path)
        assert read_nli(path, encoding="latin-1").left == ["Café"]

    @settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.lists(st.tuples(st.text("ab\" '\x85\u2028é"), st.text("ab"), st.sampled_from(NAMES)), min_size=1))
    def test_what_is_written_is_what_is_read(self, tmp_path, rows):
        rows = [("p" + left, "h" + right, name) for left, right, name in rows]
        path = write_jsonl(
            tmp_path / "a.jsonl", [{"premise": left, "hypothesis": right, "label": name} for left, right, name in rows]
        )
        other = write(tmp_path / "a.tsv", tsv(["premise", "hypothesis", "label"], rows))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pairs, again = read_nli(path), read_nli(other)
        assert pairs.texts == again.texts == [(left, right) for left, right, _ in rows]
        assert [NAMES[i] for i in pairs.labels] == [NAMES[i] for i in again.labels] == [name for *_, name in rows]


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

    def test_nothing_there(self, tmp_path):
        with pytest.raises(
            DataError, match=r"no NLI data in .*: looked for train\.jsonl, .* in its folders nli, snli, "
        ):
            read_nli(tmp_path)
        with pytest.raises(DataError, match=r"train\.jsonl: no rows for split 'train'"):
            read_nli(write(tmp_path / "train.jsonl", ""))
        with pytest.raises(DataError, match=r"no file or folder .*gone\.jsonl"):
            read_nli(tmp_path / "gone.jsonl")

    def test_two_data_sets_are_never_mixed(self, tmp_path):
        write(tmp_path / "nli/train.jsonl", OWN)
        write(tmp_path / "snli/test.jsonl", OWN)
        with pytest.raises(DataError, match="nli has no split 'test'"):
            read_nli(tmp_path, "test")

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


def on_the_hub(classes=None):
    """SNLI as the hub has it: integers, with or without the names of the classes."""
    codes = [PUBLISHED.index(label) if label in PUBLISHED else -1 for label in LABELS]
    rows = {"premise": [a for a, _ in TEXTS], "hypothesis": [b for _, b in TEXTS], "label": codes}
    features = datasets.Features(
        {
            "premise": datasets.Value("string"),
            "hypothesis": datasets.Value("string"),
            "label": datasets.ClassLabel(names=list(classes)) if classes else datasets.Value("int64"),
        }
    )
    return datasets.Dataset.from_dict(rows, features=features)


class TestNliSources:
    @pytest.mark.parametrize("classes", [PUBLISHED, None])
    def test_a_dataset(self, classes):
        pairs = read_nli(on_the_hub(classes))
        check_nli(pairs)
        assert pairs.notes[0] == "from the data set given"
        assert "numbers read as 0 entailment, 1 neutral, 2 contradiction" in pairs.notes

    @pytest.mark.parametrize("form", ["numpy", "torch"])
    def test_a_formatted_dataset(self, form):
        check_nli(read_nli(on_the_hub(PUBLISHED).with_format(form)))

    def test_a_stream(self):
        check_nli(read_nli({"validation": on_the_hub(PUBLISHED).to_iterable_dataset()}, "dev"))

    def test_the_names_of_a_dataset_count_not_its_numbers(self):
        labels = read_nli(on_the_hub(["contradiction", "neutral", "entailment"])).labels
        assert [NAMES[i] for i in labels] == ["contradiction", "entailment", "neutral"]

    def test_classes_given_count_most(self):
        labels = read_nli(on_the_hub(PUBLISHED), classes=("contradiction", "neutral", "entailment")).labels
        assert [NAMES[i] for i in labels] == ["contradiction", "entailment", "neutral"]

    def test_names_of_classes_that_are_none_of_the_label_names(self):
        with pytest.raises(
            DataError, match="row 0, column 'label': the label is 'yes'; expected one of contradiction, "
        ):
            read_nli(on_the_hub(["yes", "maybe", "no"]))

    @pytest.mark.parametrize(
        ("name", "config"),
        [
            ("stanfordnlp/snli", None),
            ("nyu-mll/multi_nli", None),
            ("sentence-transformers/all-nli", "pair-class"),
            ("nyu-mll/glue", "mnli"),
        ],
    )
    def test_the_hub(self, monkeypatch, name, config):
        asked = []
        monkeypatch.setattr(
            datasets,
            "load_dataset",
            lambda *words: asked.append(words) or datasets.DatasetDict({"validation": on_the_hub(PUBLISHED)}),
        )
        pairs = read_nli(name, "dev")
        check_nli(pairs)
        assert pairs.notes[0] == f"from {name}"
        assert asked == [(name, config) if config else (name,)]

    def test_no_hub(self, monkeypatch):
        def offline(name):
            raise ConnectionError(f"Couldn't reach '{name}'")

        monkeypatch.setattr(datasets, "load_dataset", offline)
        with pytest.raises(DataError, match=r"no file or folder 'org/name' here.*ConnectionError.*go online"):
            read_nli("org/name")

    def test_rows_that_have_no_names(self):
        with pytest.raises(DataError, match=r"row 0: expected named columns, got tuple \('A cat sleeps\."):
            read_nli(EXAMPLES)


class TestNliRows:
    @pytest.mark.parametrize("empty", ["", " ", "\u00a0"])
    @pytest.mark.parametrize("column", ["premise", "hypothesis"])
    def test_an_empty_text(self, tmp_path, column, empty):
        path = write(tmp_path / "train.jsonl", jsonl([OWN_ROWS[0], {**OWN_ROWS[1], column: empty}]))
        with pytest.raises(
            DataError, match=rf"train\.jsonl, line 2, column '{column}': the text is empty; drop the row"
        ):
            read_nli(path)

    def test_a_missing_text(self):
        with pytest.raises(DataError, match=r"row 1, column 'hypothesis': the text is missing \(None\)"):
            read_nli([OWN_ROWS[0], {**OWN_ROWS[1], "hypothesis": None}])

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


# --- duplicate questions --------------------------------------------------------------------------

QUORA_HEADER = ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"]
QUESTIONS = [
    ("How do I cook rice?", "How is rice cooked?", 1),
    ('What is "x"?', "What\tis y?", 0),  # quoted in the file
    ("Is it\n\nlate?", '"', 0),
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

    def test_rows_that_were_cut_in_two_and_shuffled(self, tmp_path):
        """As in GLUE: the two lines of one row stand apart, and its quote stays open."""
        lines = quora().rstrip("\n").split("\n")
        whole, first, last = [lines[1], lines[2], lines[6]], lines[3], lines[5]
        assert (first, last) == ('2\t4\t5\t"Is it', 'late?"\t""""\t0')
        order = [lines[0], last, whole[0], first, whole[1], last, whole[2]]
        pairs = read_duplicates(write(tmp_path / "QQP/train.tsv", "\n".join(order)).parent)
        check_duplicates(pairs, [QUESTIONS[0], QUESTIONS[1], QUESTIONS[3]])
        assert "broken rows dropped: 3, the first at line 2" in pairs.notes

    @pytest.mark.parametrize(
        "broken",
        ["9\t9\t9\tWhat?\t", "9\t9\t9\t\tWhat?\t0", "9\t9\t9\tWhat?\tHow?\t", "9\t9\t9\ta\tb\tc\t0", "9\t9\t9"],
    )
    def test_rows_with_too_little_or_too_much_are_counted_and_dropped(self, tmp_path, broken):
        path = write(tmp_path / "train.tsv", quora() + broken + "\n")
        pairs = read_duplicates(path)
        check_duplicates(pairs)
        assert "broken rows dropped: 1, the first at line 8" in pairs.notes

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
    @given(st.lists(st.tuples(st.text('ab"\t\n ?'), st.text('a"\t\n'), st.sampled_from([0, 1])), min_size=1))
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
