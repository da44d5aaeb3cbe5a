"""Tables of pairs: parts of them, their label names, and their fingerprints."""

from __future__ import annotations

import hashlib

import datasets
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import table

from crossenc_kit.data.pairs import InputExample, Pairs, as_pairs
from crossenc_kit.errors import DataError


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
        with pytest.raises(DataError, match="label_names has a name twice: no, yes, no; give each class its own name"):
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
