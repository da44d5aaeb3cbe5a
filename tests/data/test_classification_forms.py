"""NLI pairs in their published forms, from files, the hub and rows, are the same pairs."""

from __future__ import annotations

import csv
import gzip
import io
import warnings

import datasets
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small import (
    EXAMPLES,
    GLUE_MNLI,
    LABELS,
    NAMES,
    OWN,
    OWN_ROWS,
    PUBLISHED,
    SNLI_TXT,
    TEXTS,
    TREES,
    jsonl,
    tsv,
    write,
)

from crossenc_kit.data.classification import read_nli
from crossenc_kit.errors import DataError
from crossenc_kit.files import write_jsonl

INDICES = [1, 0, 2]
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

    def test_rows_that_have_no_names(self):
        with pytest.raises(DataError, match=r"row 0: expected named columns, got tuple \('A cat sleeps\."):
            read_nli(EXAMPLES)
