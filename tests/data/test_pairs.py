"""The internal form: what becomes a pair or a group, and what every unusable row says."""

from __future__ import annotations

import copy
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small import table

from crossenc_kit.data.pairs import InputExample, as_pairs, check_label, check_text
from crossenc_kit.errors import DataError

MISSING: Any = None
GROUP = {"query": "q", "docs": ["d1", "d2", "d3"], "labels": [1, 0, 2]}


class TestForms:
    def test_tuples(self):
        pairs = as_pairs([("a", "b", 0.5), ("c", "d", 1)])
        assert pairs.left == ["a", "c"]
        assert pairs.right == ["b", "d"]
        assert pairs.labels.tolist() == [0.5, 1.0]
        assert pairs.labels.dtype == np.float32
        assert pairs.offsets.tolist() == [0, 1, 2]
        assert pairs.is_pointwise

    def test_unlabelled(self):
        assert as_pairs([("a", "b"), ("c", "d")]).labels is None
        assert as_pairs([{"x": "a", "y": "b"}, {"x": "c", "y": "d"}]).labels is None

    def test_whole_numbers_stay_whole(self):
        assert as_pairs([("a", "b", 2), ("c", "d", np.int64(0))]).labels.dtype == np.int64
        assert as_pairs([("a", "b", True)]).labels.tolist() == [1]

    @pytest.mark.parametrize("target", ["label", "labels", "score", "scores"])
    def test_the_target_may_stand_anywhere(self, target):
        pairs = as_pairs([{"sentence1": "a", target: 0.25, "sentence2": "b"}])
        assert pairs.texts == [("a", "b")]
        assert pairs.labels.tolist() == [0.25]

    def test_several_labels_a_pair(self):
        pairs = as_pairs([("a", "b", [1, 0]), ("c", "d", (0.5, 0)), ("e", "f", np.array([1, 1]))])
        assert pairs.labels.tolist() == [[1, 0], [0.5, 0], [1, 1]]
        assert as_pairs([("a", "b", [0.5])]).labels.shape == (1,)

    def test_a_list_of_candidates_is_a_group(self):
        pairs = as_pairs([GROUP, {"query": "r", "docs": ["e1"], "labels": [1]}])
        assert pairs.texts == [("q", "d1"), ("q", "d2"), ("q", "d3"), ("r", "e1")]
        assert pairs.offsets.tolist() == [0, 3, 4]
        assert pairs.labels.tolist() == [1, 0, 2, 1]
        assert (len(pairs), pairs.num_pairs, pairs.is_pointwise) == (2, 4, False)

    def test_candidates_without_labels_stay_unlabelled(self):
        assert as_pairs([{"query": "q", "docs": ["d1", "d2"]}]).labels is None
        assert as_pairs([InputExample(texts=["q", "d1", "d2"], label=None)]).labels is None

    def test_anchor_positive_negatives(self):
        for row in (("q", "p", "n1", "n2"), {"anchor": "q", "positive": "p", "negative_1": "n1", "negative_2": "n2"}):
            pairs = as_pairs([row])
            assert pairs.texts == [("q", "p"), ("q", "n1"), ("q", "n2")]
            assert pairs.labels.tolist() == [1, 0, 0]

    def test_three_texts_are_no_label(self):
        assert as_pairs([("q", "p", "n")]).labels.tolist() == [1, 0]

    def test_an_input_example_has_label_0_by_default_as_in_sentence_transformers(self):
        assert as_pairs([InputExample(texts=["a", "b"])]).labels.tolist() == [0]

    def test_pairs_are_given_back_as_they_are(self):
        pairs = table()
        assert as_pairs(pairs) is pairs

    def test_generators_and_nothing(self):
        assert as_pairs(pair for pair in [("a", "b")]).texts == [("a", "b")]
        empty = as_pairs([])
        assert (len(empty), empty.num_pairs, empty.labels, list(empty)) == (0, 0, None, [])

    @settings(deadline=None, max_examples=40)
    @given(st.lists(st.tuples(st.text(), st.text(), st.integers(0, 5) | st.floats(0, 1, width=32)), min_size=1))
    def test_every_form_of_the_same_data_has_one_fingerprint(self, rows):
        rows = [(left, right, float(label)) for left, right, label in rows]
        forms = [
            rows,
            [InputExample(texts=[left, right], label=label) for left, right, label in rows],
            [{"sentence1": left, "sentence2": right, "score": label} for left, right, label in rows],
            datasets.Dataset.from_list(
                [{"text1": left, "text2": right, "label": label} for left, right, label in rows]
            ),
            [(left, right, np.float32(label)) for left, right, label in rows],
            list(as_pairs(rows)),
        ]
        assert len({as_pairs(form).fingerprint() for form in forms}) == 1

    @settings(deadline=None, max_examples=40)
    @given(st.lists(st.tuples(st.text(), st.lists(st.tuples(st.text(), st.integers(0, 3)), min_size=2)), min_size=1))
    def test_every_form_of_the_same_groups_has_one_fingerprint(self, groups):
        rows = [{"query": q, "docs": [d for d, _ in docs], "labels": [n for _, n in docs]} for q, docs in groups]
        pairs = as_pairs(rows)
        assert as_pairs(datasets.Dataset.from_list(rows)).fingerprint() == pairs.fingerprint()
        assert as_pairs(list(pairs)).fingerprint() == pairs.fingerprint()
        unlabelled = as_pairs([{"query": row["query"], "docs": row["docs"]} for row in rows])
        assert as_pairs(list(unlabelled)).fingerprint() == unlabelled.fingerprint()


class TestBadRows:
    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            ([("a", "b"), ("c", None)], r"row 1, column '1': the text is missing \(None\)"),
            ([{"x": "a", "y": float("nan")}], r"row 0, column 'y': the text is missing \(nan\)"),
            ([{"x": 3, "y": "b"}], r"row 0, column 'x': expected a string, got int '3'"),
            ([("a", b"b")], "row 0, column '1': expected a string, got bytes"),
            ([InputExample(texts=["a", MISSING], label=1)], r"row 0, column 'texts\[1\]': the text is missing"),
            ([{"q": "a", "docs": ["b", None], "labels": [1, 0]}], "row 0, column 'docs': the text is missing"),
            ([{"q": "a", "docs": [], "labels": []}], "row 0, column 'docs': the list of candidates is empty"),
            ([("a",)], "row 0: a pair needs two texts, got 1"),
            ([{"x": "a", "label": 1}], "row 0: a pair needs two texts, got 1"),
            ([InputExample(label=1)], "row 0: a pair needs two texts, got 0"),
            ([("a", "b"), "c d"], r"row 1: expected an InputExample, .* got str"),
            ([("a", "b"), 7], r"row 1: expected .* got int"),
            (("a", "b"), r"row 0: expected .* got str"),
            ([{"x": "a", "y": "b", "label": 1, "score": 2}], "more than one target column: .*; keep one"),
        ],
    )
    def test_texts(self, rows, message):
        with pytest.raises(DataError, match=message):
            as_pairs(rows)

    @pytest.mark.parametrize("data", ["one string", None, 7])
    def test_no_list_at_all(self, data):
        with pytest.raises(DataError, match="expected a list of examples, got"):
            as_pairs(data)

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            ([1, float("nan")], "row 1, label: the label is nan; drop the row"),
            ([float("inf")], "row 0, label: the label is inf"),
            ([[0.5, float("-inf")]], r"row 0, label\[1\]: the label is -inf"),
            (["entailment"], "row 0, label: the label is the string 'entailment'; map label names"),
            ([b"1"], "row 0, label: the label is the string b'1'"),
            ([{}], "row 0, label: the label is {}; expected a number"),
            ([10**400], "row 0, label: the label is 1000.*expected a number"),
            ([[]], "row 0, label: the label is an empty list"),
            ([1, None], "row 1: some rows have a label and some have none"),
            ([None, 1], "row 1: some rows have a label and some have none"),
            ([[1, 2], [1, 2], [1, 2, 3]], "pair 2: its label has 3 values, the first pair's has 2"),
            ([1, [1, 2]], "pair 1: its label has 2 values, the first pair's has 1"),
        ],
    )
    def test_labels(self, labels, message):
        for rows in (
            [{"x": "a", "y": "b", "label": label} for label in labels],
            [InputExample(texts=["a", "b"], label=label) for label in labels],
        ):
            with pytest.raises(DataError, match=message):
                as_pairs(rows)

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            ([1, 0], "row 0: 3 candidates need 3 labels, got 2"),
            (1, "row 0: 3 candidates need 3 labels, got a single one"),
            ([1, 0, "x"], r"row 0, label\[2\]: the label is the string 'x'"),
        ],
    )
    def test_labels_of_groups(self, labels, message):
        with pytest.raises(DataError, match=message):
            as_pairs([{**GROUP, "labels": labels}])

    def test_it_is_a_value_error(self):
        assert issubclass(DataError, ValueError)


class TestChecks:
    def test_text(self):
        assert check_text("", "here") == ""
        assert check_text(np.str_("a"), "here") == "a"
        with pytest.raises(DataError, match=r"^here: the text is missing \(None\)"):
            check_text(None, "here")
        with pytest.raises(DataError, match=r"^here: expected a string, got list"):
            check_text(["a"], "here")

    @pytest.mark.parametrize(
        ("label", "expected"),
        [
            (1, 1),
            (True, 1),
            (0.5, 0.5),
            (np.int64(3), 3),
            (np.float32(0.5), 0.5),
            (np.array(2), 2),
            (np.array([1, 0]), [1, 0]),
            (torch.tensor(1.5), 1.5),
            (torch.tensor([1, 0]), [1, 0]),
            ((1, 2.5), [1, 2.5]),
        ],
    )
    def test_label(self, label, expected):
        checked = check_label(label, "here")
        assert checked == expected
        assert not isinstance(checked, (np.ndarray, np.generic, torch.Tensor))


class TestInputExample:
    def test_equal_by_value(self):
        example = InputExample("1", ["a", "b"], 0.5)
        assert example == InputExample(guid="1", texts=["a", "b"], label=0.5) == copy.copy(example)
        assert example != InputExample("1", ["a", "b"], 0.6)
        assert example != ("1", ["a", "b"], 0.5)
        assert repr(example) == "InputExample(texts=['a', 'b'], label=0.5)"
        with pytest.raises(TypeError, match="unhashable"):
            hash(example)


def test_a_notebook_shows_the_first_rows():
    pairs = as_pairs([GROUP | {"docs": ["<i>", "d2", "d3"]}, *[GROUP] * 9])
    shown = pairs._repr_html_()
    assert shown.count("<tr>") == 6
    assert "<tr><td>0</td><td>q</td><td>&lt;i&gt;</td><td>1</td></tr>" in shown
    assert "<tr><td>1</td><td>q</td><td>d1</td><td>1</td></tr>" in shown
    assert "<caption>Pairs: 10 groups, 30 pairs</caption>" in shown
    assert "<td>a</td><td>b</td><td></td>" in as_pairs([("a", "b")])._repr_html_()
