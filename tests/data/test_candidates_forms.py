"""Rows of queries and candidates in the forms of the hub become groups, with labels, one a query."""

from __future__ import annotations

import datasets
import numpy as np
import pytest
from small import groups

from crossenc_kit.data.candidates import read_candidates
from crossenc_kit.data.pairs import as_pairs
from crossenc_kit.errors import DataError
from crossenc_kit.files import write_jsonl

MS_MARCO = [
    {
        "answers": ["yes"],
        "passages": {"is_selected": [0, 1, 0], "passage_text": ["a", "b", "c"], "url": ["u", "v", "w"]},
        "query": "q one",
        "query_id": 1185869,
        "query_type": "DESCRIPTION",
        "wellFormedAnswers": [],
    },
    {
        "answers": ["No Answer Present."],
        "passages": {"is_selected": [0, 0], "passage_text": ["d", "e"], "url": ["x", "y"]},
        "query": "q two",
        "query_id": 2,
        "query_type": "NUMERIC",
        "wellFormedAnswers": [],
    },
    {
        "answers": ["7"],
        "passages": {"is_selected": [1], "passage_text": ["f"], "url": ["z"]},
        "query": "q three",
        "query_id": 3,
        "query_type": "NUMERIC",
        "wellFormedAnswers": [],
    },
]


class TestMsMarco:
    def test_passages(self):
        pairs = read_candidates(datasets.Dataset.from_list(MS_MARCO))
        assert groups(pairs) == [("q one", {"a": 0, "b": 1, "c": 0}), ("q three", {"f": 1})]
        assert pairs.labels.dtype == np.int64
        assert pairs.tags == {"query_id": [1185869, 3], "query_type": ["DESCRIPTION", "NUMERIC"]}
        assert pairs.notes == ("from the data set given", "queries without a selected passage left out: 1 ('2')")

    def test_passages_as_a_list_of_dicts(self):
        listed = []
        for row in MS_MARCO:
            cells = zip(*row["passages"].values(), strict=True)
            listed.append({**row, "passages": [dict(zip(row["passages"], cell, strict=True)) for cell in cells]})
        assert listed[2]["passages"] == [{"is_selected": 1, "passage_text": "f", "url": "z"}]
        assert groups(read_candidates(listed)) == groups(read_candidates(MS_MARCO))

    def test_the_hub(self, monkeypatch):
        asked = []

        def load(name, config=None):
            asked.append((name, config))
            return datasets.DatasetDict({"validation": datasets.Dataset.from_list(MS_MARCO)})

        monkeypatch.setattr(datasets, "load_dataset", load)
        pairs = read_candidates("microsoft/ms_marco", "dev", config="v2.1")
        assert asked == [("microsoft/ms_marco", "v2.1")]
        assert len(pairs) == 2
        assert pairs.notes[0] == "from microsoft/ms_marco"

    def test_what_cannot_be_used(self):
        uneven = {**MS_MARCO[0], "passages": {"is_selected": [1], "passage_text": ["a", "b"]}}
        with pytest.raises(
            DataError, match=r"the data set given, row 1: column 'passages': 2 passage_text, 1 is_selected"
        ):
            read_candidates([MS_MARCO[0], uneven])
        with pytest.raises(DataError, match=r"none of the 1 queries has a selected passage"):
            read_candidates([MS_MARCO[1]])
        with pytest.raises(DataError, match=r"row 0: column 'query': the text is missing"):
            read_candidates([{**MS_MARCO[0], "query": None}])
        for passages in (None, "a", ["a"]):
            with pytest.raises(DataError, match=r"row 1: column 'passages': expected passage_text and is_selected"):
                read_candidates([MS_MARCO[0], {"query": "q", "passages": passages}])
        pairs = read_candidates([{"query": "q", "passages": None}, uneven, *MS_MARCO], malformed="count")
        assert groups(pairs) == groups(read_candidates(MS_MARCO))
        assert pairs.notes[1].startswith("the data set given: malformed rows left out: 2 (row 0: column 'passages': ")


class TestSentenceTransformers:
    def test_triplets(self):
        data = datasets.Dataset.from_dict({"query": ["why", "how"], "positive": ["a", "b"], "negative": ["c", "d"]})
        assert groups(read_candidates(data)) == [("why", {"a": 1, "c": 0}), ("how", {"b": 1, "d": 0})]

    def test_many_negatives(self):
        names = ["query", "positive", *(f"negative_{i}" for i in range(1, 6))]
        pairs = read_candidates(datasets.Dataset.from_dict({name: [name] for name in names}))
        assert groups(pairs) == [("query", dict.fromkeys(names[2:], 0) | {"positive": 1})]

    @pytest.mark.parametrize("target", ["score", "label"])
    def test_scored_passages_are_grouped_by_query(self, target):
        columns = {"query": ["why", "how", "why"], "passage": ["a", "b", "c"], target: [0.5, 1.0, 0.25]}
        data = datasets.Dataset.from_dict(columns)
        pairs = read_candidates(data)
        assert groups(pairs) == [("why", {"a": 0.5, "c": 0.25}), ("how", {"b": 1.0})]
        assert pairs.notes[1:] == ("3 rows joined to 2 queries",)
        alone = read_candidates(data, by_query=False)
        assert alone.is_pointwise
        assert alone.fingerprint() == as_pairs(data).fingerprint()

    def test_a_labelled_list(self):
        data = datasets.Dataset.from_dict({"query": ["why"], "docs": [["a", "b", "c"]], "labels": [[0, 1, 0]]})
        assert groups(read_candidates(data)) == [("why", {"a": 0, "b": 1, "c": 0})]
        assert groups(read_candidates(data, depth=2)) == [("why", {"a": 0, "b": 1})]
        unlabelled = read_candidates(data.remove_columns("labels"))
        assert unlabelled.labels is None
        assert groups(unlabelled) == [("why", {"a": None, "b": None, "c": None})]


QUERY = {"query": "q", "positive": "p"}
TWO = {**QUERY, "negative_1": "n", "negative_2": "m"}


class TestMargins:
    def labels(self, *rows):
        return [example.label for example in read_candidates(list(rows))]

    def test_they_are_counted_from_the_first_negative_and_not_joined(self):
        rows = {"query": ["why", "why"], "positive": ["a", "a"], "negative": ["b", "c"], "score": [4.0, -1.5]}
        pairs = read_candidates(datasets.Dataset.from_dict(rows))
        assert groups(pairs) == [("why", {"a": 4.0, "b": 0.0}), ("why", {"a": -1.5, "c": 0.0})]
        assert "scores are margins: labels count from the first negative, which is 0" in pairs.notes

    def test_by_hand(self):
        assert self.labels({**QUERY, "negative": "n", "score": 2.5}) == [[2.5, 0.0]]
        assert self.labels({**TWO, "score": [2.5, 1.0]}) == [[2.5, 0.0, 1.5]]  # the second is nearer to the positive
        assert self.labels({**QUERY, "negatives": ["n", "m"], "score": [2.5, 1.0]}) == [[2.5, 0.0, 1.5]]
        assert self.labels({**TWO, "labels": [9.0, 6.5, 8.0]}) == [[9.0, 6.5, 8.0]]  # a score for each
        assert self.labels({**QUERY, "negative": "n", "scores": [0.75, 0.25]}) == [[0.75, 0.25]]

    def test_every_form_has_one_margin_mse(self):
        torch = pytest.importorskip("torch")
        from crossenc_kit.losses.pairwise import margin_mse

        scores, mask = torch.tensor([[0.3, -1.0, 0.9]]), torch.ones(1, 3, dtype=torch.bool)
        forms = [*self.labels({**TWO, "score": [2.5, 1.0]}), *self.labels({**TWO, "score": [9.0, 6.5, 8.0]})]
        by_hand = [((0.3 + 1.0) - 2.5) ** 2, ((0.3 - 0.9) - 1.0) ** 2]
        for labels in forms:
            found = margin_mse(scores, torch.tensor([labels]), mask, against_first=True)
            assert found.item() == pytest.approx(np.mean(by_hand), rel=1e-6)

    def test_wrong_numbers_of_scores(self):
        row = {**QUERY, "negative": "n"}
        with pytest.raises(DataError, match="row 1: column 'score': 2 candidates need 2 labels, got 3"):
            self.labels({**row, "score": 1.0}, {**row, "score": [1.0, 2.0, 3.0]})
        with pytest.raises(DataError, match="row 0: column 'score': the label is nan"):
            self.labels({**row, "score": float("nan")})
        with pytest.raises(DataError, match="row 0: column 'score': 3 candidates need 3 labels, got a single one"):
            self.labels({**TWO, "score": 1.0})


class TestRows:
    def test_ids_beside_texts_are_tags(self):
        rows = [{"qid": "1", "query": "why", "positive": "a", "negative": "b", "negative_ids": ["9"], "url": "u"}]
        pairs = read_candidates(rows)
        assert groups(pairs) == [("why", {"a": 1, "b": 0})]
        assert pairs.tags == {"qid": ["1"], "negative_ids": [["9"]], "url": ["u"]}

    def test_named_columns(self):
        rows = [{"lang": "en", "question": "why", "text": "a", "label": 1}]
        pairs = read_candidates(rows, columns=["question", "text"])
        assert (groups(pairs), pairs.tags) == ([("why", {"a": 1})], {"lang": ["en"]})
        for columns in (["question"], ["question", "body"], "question"):
            with pytest.raises(DataError, match=r"columns is .*; expected two or more of lang, question, text, label"):
                read_candidates(rows, columns=columns)
        with pytest.raises(DataError, match=r"no query with documents in the columns query, label; name them"):
            read_candidates([{"query": "why", "label": 1}])

    def test_files(self, tmp_path):
        rows = [{"query": "why", "passage": "a", "label": 1}, {"query": "why", "passage": "b", "label": 0}]
        path = write_jsonl(tmp_path / "train.jsonl", rows)
        assert groups(read_candidates(path)) == groups(read_candidates(tmp_path)) == [("why", {"a": 1, "b": 0})]
        (tmp_path / "a.tsv").write_text("query\tpassage\tlabel\nwhy\ta\t1\nwhy\tb\t0.5\n")
        assert groups(read_candidates(tmp_path / "a.tsv")) == [("why", {"a": 1, "b": 0.5})]
        (tmp_path / "a.tsv").write_text("query\tpassage\tlabel\nwhy\ta\tyes\n")
        with pytest.raises(DataError, match="the label is the string 'yes'"):
            read_candidates(tmp_path / "a.tsv")

    def test_limit(self):
        data = datasets.Dataset.from_dict({"query": list("abc"), "positive": list("def"), "negative": list("ghi")})
        assert read_candidates(data, limit=2).left == ["a", "a", "b", "b"]
        streamed = read_candidates(data.to_iterable_dataset(), limit=2)
        assert streamed.fingerprint() == read_candidates(data, limit=2).fingerprint()

    def test_blank_texts_and_labels_below_0(self):
        rows = [{"query": "why", "docs": ["a", " ", ""], "labels": [1, -1, -2]}]
        pairs = read_candidates(rows)
        assert pairs.notes[1:] == ("blank documents: 2 (the first of query 'why')", "labels below 0: 2")
        assert read_candidates([{"query": "why", "passage": "a", "score": -2.5}]).notes == ("from the data set given",)
        with pytest.raises(DataError, match="row 1: column 'query': the query is blank"):
            read_candidates([*rows, {"query": " ", "docs": ["a"], "labels": [1]}])

    def test_a_depth_of_0(self):
        with pytest.raises(ValueError, match="depth must be at least 1, got 0"):
            read_candidates(MS_MARCO, depth=0)

    def test_what_cannot_be_used(self):
        with pytest.raises(DataError, match="the data set given: no rows for split 'train'"):
            read_candidates([])
        with pytest.raises(DataError, match=r"row 1: expected named columns, got tuple"):
            read_candidates([("a", "b", "c"), ("c", "d")])
        with pytest.raises(DataError, match=r"row 1: column 'negative': the text is missing"):
            read_candidates([{"query": "a", "positive": "b", "negative": "c"}, {"query": "a", "positive": "b"}])
