"""The internal form: what becomes a pair or a group, and what every unusable row says."""

from __future__ import annotations

import copy
import hashlib
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crossenc_kit.pairs import DataError, InputExample, Pairs, as_pairs, check_label, check_text

MISSING: Any = None
GROUP = {"query": "q", "docs": ["d1", "d2", "d3"], "labels": [1, 0, 2]}


def table():
    """Four examples: groups of 1, 3, 1 and 2 pairs, labelled 0 to 6 in order."""
    left = ["a", "q", "q", "q", "b", "r", "r"]
    right = [f"d{i}" for i in range(7)]
    return Pairs(
        left, right, np.arange(7.0, dtype=np.float32), np.array([0, 1, 4, 5, 7]), {"id": list("wxyz")}, ("note",)
    )


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


class TestTable:
    def test_examples(self):
        pairs = table()
        assert len(pairs) == 4
        assert pairs[0] == InputExample(texts=["a", "d0"], label=0.0)
        assert pairs[1] == pairs[-3] == InputExample(texts=["q", "d1", "d2", "d3"], label=[1.0, 2.0, 3.0])
        assert list(pairs) == [pairs[i] for i in range(4)]
        assert Pairs(["a"], ["b"])[0] == InputExample(texts=["a", "b"], label=None)
        for outside in (4, -5):
            with pytest.raises(IndexError):
                pairs[outside]

    def test_select(self):
        chosen = table().select([3, 0])
        assert chosen.texts == [("r", "d5"), ("r", "d6"), ("a", "d0")]
        assert chosen.labels.tolist() == [5, 6, 0]
        assert chosen.offsets.tolist() == [0, 2, 3]
        assert chosen.tags == {"id": ["z", "w"]}
        assert chosen.notes == ("note",)
        assert len(table().select([])) == 0
        assert table().select(np.array([1, 1])).num_pairs == 6

    def test_select_counts_from_the_end_and_knows_its_bounds(self):
        assert list(table().select([-1])) == [table()[3]]
        for outside in (4, -5):
            with pytest.raises(IndexError):
                table().select([outside])
        with pytest.raises(TypeError):
            table().select(np.array([True, False, True, False]))  # a mask is no list of indices

    @given(st.lists(st.integers(-4, 3)))
    def test_select_is_indexing(self, chosen):
        pairs = table()
        assert list(pairs.select(chosen)) == [pairs[i] for i in chosen]

    @given(st.slices(4))
    def test_a_slice_is_a_table(self, part):
        pairs = table()
        assert list(pairs[part]) == list(pairs)[part]
        assert pairs[part].tags["id"] == list("wxyz")[part]

    def test_select_leaves_the_table_alone(self):
        pairs = table()
        before = pairs.fingerprint()
        pairs.select([1]).left[0] = "changed"
        pairs.select([1]).labels[0] = 9
        assert pairs.fingerprint() == before

    @pytest.mark.parametrize(
        ("parts", "message"),
        [
            ({"right": ["b"]}, "right says 1 pairs, but there are 2 left texts"),
            ({"labels": np.zeros(3)}, "labels says 3 pairs"),
            ({"offsets": np.array([0, 1])}, r"offsets\[-1\] says 1 pairs"),
            ({"tags": {"id": ["x"]}}, "tag 'id' has 1 values for 2 examples"),
        ],
    )
    def test_columns_of_unequal_length(self, parts, message):
        with pytest.raises(DataError, match=message):
            Pairs(**{"left": ["a", "b"], "right": ["c", "d"], **parts})

    def test_repr(self):
        assert repr(table()) == "Pairs: 4 groups, 7 pairs; note"
        assert repr(as_pairs([("a", "b")] * 1200)) == "Pairs: 1,200 pairs"


def classes(labels=(2, 0, 1, 0), names=("no", "yes", "maybe"), **parts):
    count = len(labels)
    return Pairs(list("abcdefg")[:count], list("ABCDEFG")[:count], np.array(labels), label_names=names, **parts)


class TestLabelNames:
    def test_they_are_a_tuple_and_shown(self):
        pairs = classes(names=["no", "yes", "maybe"], notes=("note",))
        assert pairs.label_names == ("no", "yes", "maybe")
        assert repr(pairs) == "Pairs: 4 pairs; classes no, yes, maybe; note"
        assert table().label_names == ()

    def test_whole_numbers_of_any_type_are_indices(self):
        for dtype in (np.int64, np.float32, np.uint8):
            assert classes(np.array([2, 0, 1], dtype=dtype)).labels.dtype == dtype
        assert Pairs(["a"], ["b"], label_names=("no", "yes")).labels is None

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            ([0, 3, -1], "pair 1: the label is 3; expected 0 no, 1 yes, 2 maybe"),
            ([0, 2, -1], r"pair 2: the label is -1; expected 0 no, 1 yes, 2 maybe \(-1 is none: drop the row\)"),
            ([0.5, 1.0], r"pair 0: the label is 0\.5; expected"),
            ([0, float("nan")], "pair 1: the label is nan; expected"),
            ([[0.2, 0.8]], "the labels have 2 columns, but there are 3 label_names"),
        ],
    )
    def test_a_label_without_a_name(self, labels, message):
        with pytest.raises(DataError, match=message):
            classes(labels)

    def test_no_name_twice(self):
        with pytest.raises(
            DataError, match="label_names has a name twice: no, yes, no; give every class a name of its own"
        ):
            classes(names=("no", "yes", "no"))

    def test_parts_keep_them(self):
        for part in (classes()[1:3], classes().select([3]), classes().select([])):
            assert part.label_names == ("no", "yes", "maybe")

    def test_another_order(self):
        pairs = classes(notes=("note",)).with_label_names(["maybe", "no", "yes"])
        assert pairs.labels.tolist() == [0, 1, 2, 1]
        assert pairs.labels.dtype == np.int64
        assert pairs.label_names == ("maybe", "no", "yes")
        assert pairs.notes == ("note",)
        assert pairs.texts == classes().texts
        wide = classes(np.array([[0.1, 0.2, 0.7]], dtype=np.float32)).with_label_names(["maybe", "no", "yes"])
        np.testing.assert_allclose(wide.labels, [[0.7, 0.1, 0.2]], rtol=1e-6)
        unlabelled = Pairs(["a"], ["b"], label_names=("no", "yes")).with_label_names(("yes", "no"))
        assert unlabelled.label_names == ("yes", "no")

    @given(st.lists(st.integers(0, 4), min_size=1, max_size=7), st.permutations("vwxyz"), st.permutations("vwxyz"))
    def test_every_pair_keeps_the_name_of_its_class(self, labels, first, second):
        pairs = classes(labels, first)
        again = pairs.with_label_names(second)
        assert [again.label_names[i] for i in again.labels] == [pairs.label_names[i] for i in pairs.labels]
        assert again.with_label_names(first).fingerprint() == pairs.fingerprint()

    @pytest.mark.parametrize("names", [["no", "yes"], ["no", "yes", "maybe", "x"], ["no", "yes", "yes"], "no", []])
    def test_other_names_are_no_order(self, names):
        with pytest.raises(DataError, match=r"the classes are \('no', 'yes', 'maybe'\), got .*; give the same names"):
            classes().with_label_names(names)
        with pytest.raises(DataError, match=r"the classes are \(\), got"):
            table().with_label_names(names)

    def test_they_are_part_of_the_fingerprint(self):
        prints = {
            classes().fingerprint(),
            classes(names=()).fingerprint(),
            classes(names=("yes", "no", "maybe")).fingerprint(),
            classes(names=("no", "yes", "maybe", "x")).fingerprint(),
        }
        assert len(prints) == 4
        offsets, labels = np.array([0, 1], "<i8").tobytes(), np.array([1], "<f8").tobytes()
        expected = hashlib.sha256(b"1:a1:A2:no3:yes" + offsets + labels).hexdigest()
        assert classes([1], ("no", "yes")).fingerprint() == expected

    def test_of_a_dataset(self):
        names = ["entailment", "neutral", "contradiction"]
        rows = {"premise": ["a", "b"], "hypothesis": ["c", "d"], "label": [2, 0]}
        data = datasets.Dataset.from_dict(rows)
        assert as_pairs(data).label_names == ()
        named = data.cast_column("label", datasets.ClassLabel(names=names))
        for form in (named, named.with_format("torch"), named.to_iterable_dataset()):
            pairs = as_pairs(form)
            assert pairs.label_names == tuple(names)
            assert pairs.labels.tolist() == [2, 0]
            assert pairs.texts == [("a", "c"), ("b", "d")]
        assert as_pairs(named.rename_column("label", "labels")).label_names == tuple(names)
        assert as_pairs(named.select([])).label_names == tuple(names)
        assert as_pairs(as_pairs(named)).label_names == tuple(names)

    def test_a_missing_label_of_a_dataset(self):
        rows = {"premise": ["a", "b"], "hypothesis": ["c", "d"], "label": [0, -1]}
        data = datasets.Dataset.from_dict(rows).cast_column("label", datasets.ClassLabel(names=["no", "yes"]))
        with pytest.raises(
            DataError, match=r"pair 1: the label is -1; expected 0 no, 1 yes \(-1 is none: drop the row\)"
        ):
            as_pairs(data)


class TestFingerprint:
    def test_known_answer(self):
        """By hand: each text after its length in bytes, offsets as int64, labels as float64."""
        offsets, labels = np.array([0, 1], "<i8").tobytes(), np.array([0.5], "<f8").tobytes()
        expected = hashlib.sha256("1:a2:é".encode() + offsets + labels).hexdigest()
        assert as_pairs([("a", "é", 0.5)]).fingerprint() == expected

    @pytest.mark.parametrize(
        "change",
        [
            {"left": ["a!", "q", "q", "q", "b", "r", "r"]},
            {"right": ["d1", "d0", *[f"d{i}" for i in range(2, 7)]]},
            {"offsets": np.array([0, 1, 3, 5, 7])},
            {"labels": np.array([0, 1, 2, 3, 4, 5, 6.5])},
            {"labels": None},
        ],
    )
    def test_any_change_shows(self, change):
        pairs = table()
        parts = {"left": pairs.left, "right": pairs.right, "labels": pairs.labels, "offsets": pairs.offsets}
        assert Pairs(**parts).fingerprint() == pairs.fingerprint()  # tags and notes are no model input
        assert Pairs(**{**parts, **change}).fingerprint() != pairs.fingerprint()

    @given(st.lists(st.text("a\0 1:"), min_size=4, max_size=4, unique=True))
    def test_where_a_text_ends_shows(self, texts):
        a, b, c, d = texts
        prints = {Pairs([a, b], [c, d]).fingerprint(), Pairs([a + b, ""], [c, d]).fingerprint()}
        assert len(prints) == (1 if b == "" else 2)
        assert Pairs(["a\0b"], ["c"]).fingerprint() != Pairs(["a"], ["b\0c"]).fingerprint()

    def test_half_a_surrogate_pair(self):
        assert Pairs(["\ud800"], ["b"]).fingerprint() != Pairs(["\udfff"], ["b"]).fingerprint()


class TestInputExample:
    def test_equal_by_value(self):
        example = InputExample("1", ["a", "b"], 0.5)
        assert example == InputExample(guid="1", texts=["a", "b"], label=0.5) == copy.copy(example)
        assert example != InputExample("1", ["a", "b"], 0.6)
        assert example != ("1", ["a", "b"], 0.5)
        assert repr(example) == "InputExample(texts=['a', 'b'], label=0.5)"
        with pytest.raises(TypeError, match="unhashable"):
            hash(example)
