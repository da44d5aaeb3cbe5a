"""What labels become of teacher scores: order of classes, gold labels beside them, and what does not fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crossenc_kit import DataError, Pairs, with_teacher_scores
from crossenc_kit.losses import teacher_and_gold


class TestLabels:
    GROUPED = Pairs(
        ["q", "q", "r"], ["a", "b", "c"], np.array([1, 0, 1]), np.array([0, 2, 3]), {"query_id": ["1", "2"]}
    )

    def test_scores_become_labels(self):
        taught = with_teacher_scores(self.GROUPED, [2.5, -1, 0.5])
        assert taught.labels.tolist() == [2.5, -1, 0.5]
        assert taught.labels.dtype == np.float32
        assert taught.offsets.tolist() == [0, 2, 3]
        assert taught.tags == {"query_id": ["1", "2"]}
        assert taught.notes[-1] == "labels are a teacher's scores, -1 to 2.5"
        assert self.GROUPED.labels.tolist() == [1, 0, 1]

    def test_gold_stands_after_the_teacher(self):
        taught = with_teacher_scores(self.GROUPED, [[2.5], [-1], [0.5]], gold=True)
        assert taught.labels.tolist() == [[2.5, 1], [-1, 0], [0.5, 1]]
        teacher, gold = teacher_and_gold(taught.labels)
        assert teacher.tolist() == [2.5, -1, 0.5]
        assert gold.tolist() == [1, 0, 1]
        assert taught[0].label == [[2.5, 1.0], [-1.0, 0.0]]

    def test_a_teachers_classes_in_another_order(self):
        pairs = Pairs(["a", "b"], ["c", "d"], np.array([2, 0]), label_names=("no", "maybe", "yes"))
        scores = [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]  # of yes, no, maybe
        order = ("yes", "no", "maybe")
        taught = with_teacher_scores(pairs, scores, label_names=order)
        assert taught.labels.tolist() == [[1, 2, 0], [4, 5, 3]]
        assert taught.label_names == ("no", "maybe", "yes")
        both = with_teacher_scores(pairs, scores, gold=True, label_names=order)
        assert both.labels.tolist() == [[1, 2, 0, 2], [4, 5, 3, 0]]
        back = both.with_label_names(order)
        assert back.labels.tolist() == [[0, 1, 2, 0], [3, 4, 5, 1]]
        assert with_teacher_scores([("a", "b")], [[1.0, 0.0]], label_names=("x", "y")).label_names == ("x", "y")
        with pytest.raises(DataError, match="the teacher's classes are yes, no, perhaps, the data's no, maybe, yes"):
            with_teacher_scores(pairs, scores, label_names=("yes", "no", "perhaps"))
        with pytest.raises(DataError, match=r"label_names has 2 names \(yes, no\), the scores have 3 per pair"):
            with_teacher_scores(pairs, scores, label_names=("yes", "no"))

    def test_gold_classes(self):
        pairs = Pairs(["a", "b"], ["c", "d"], np.array([2, 0]), label_names=("no", "maybe", "yes"))
        scores = [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
        assert with_teacher_scores(pairs, scores).label_names == pairs.label_names
        taught = with_teacher_scores(pairs, scores, gold=True)
        assert taught.label_names == pairs.label_names
        teacher, gold = teacher_and_gold(torch.tensor(taught.labels), num_labels=3)
        assert teacher.tolist() == scores
        assert gold.tolist() == [2, 0]

    def test_gold_distributions(self):
        pairs = Pairs(["a"], ["c"], np.array([[0.2, 0.8]]))
        teacher, gold = teacher_and_gold(with_teacher_scores(pairs, [[5.0, 6.0]], gold=True).labels, num_labels=2)
        assert teacher.tolist() == [[5, 6]]
        assert gold.tolist() == [[np.float32(0.2), np.float32(0.8)]]

    @given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3))
    def test_lists_keep_their_axes(self, queries, candidates, columns):
        labels = torch.arange(queries * candidates * (columns + 1)).reshape(queries, candidates, columns + 1)
        teacher, gold = teacher_and_gold(labels, columns)
        assert torch.equal(gold, labels[:, :, -1])
        assert torch.equal(teacher.reshape(queries, candidates, columns), labels[:, :, :-1])

    @pytest.mark.parametrize(
        ("scores", "message"),
        [
            ([1.0, 2.0], r"the teacher's scores have shape \(2,\) for 3 pairs"),
            ([1.0, float("nan"), 2.0], r"the teacher gave nan for pair 1 .*\(1 of 3 scores are not finite\)"),
            ([1.0, 2.0, 1e39], r"the teacher gave inf for pair 2 \(1e\+39 before float32\)"),
            (np.zeros((3, 1, 1)), r"shape \(3, 1, 1\)"),
        ],
    )
    def test_scores_that_do_not_fit(self, scores, message):
        with pytest.raises(DataError, match=message):
            with_teacher_scores(self.GROUPED, scores)

    def test_gold_that_does_not_fit(self):
        with pytest.raises(DataError, match="these pairs have none"):
            with_teacher_scores([("a", "b")], [1.0], gold=True)
        with pytest.raises(DataError, match=r"gold labels have shape \(1, 2\), the teacher's scores \(1, 3\)"):
            with_teacher_scores([("a", "b", [0.5, 0.5])], [[1.0, 2.0, 3.0]], gold=True)
        with pytest.raises(ValueError, match=r"labels of shape \(3,\) are not a teacher's 1 with gold"):
            teacher_and_gold(np.zeros(3))
        with pytest.raises(ValueError, match=r"labels of shape \(3, 5\) are not a teacher's 3 with gold"):
            teacher_and_gold(np.zeros((3, 5)), num_labels=3)

    @pytest.mark.parametrize(("scores", "count"), [([1, 1, 0], 1), ([1, 1, 1], 1), ([2, 1, 1], 0)])
    def test_lists_with_one_score_for_all_are_told(self, scores, count, recwarn):
        lists = [{"query": "q", "documents": ["a", "b"]}, {"query": "r", "documents": ["c"]}]  # the second has one only
        with_teacher_scores(lists, scores)
        told = [str(one.message).partition(" lists all documents have the same teacher score")[0] for one in recwarn]
        assert told == ["in 1 of 2"] * count
        assert [one.filename for one in recwarn] == [__file__] * count
