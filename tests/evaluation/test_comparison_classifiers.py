"""Two reports of classes compared, and accuracies by tag."""

import warnings

import numpy as np
import pytest
import scipy.stats
from classification_reports import LOGITS, evaluate, random_classes
from hypothesis import given, settings
from hypothesis import strategies as st

from crossenc_kit.errors import DataError
from crossenc_kit.evaluation.classification import accuracy_by_tag
from crossenc_kit.evaluation.comparison import compare_classifiers
from crossenc_kit.evaluation.metrics import bootstrap_interval


class TestComparison:
    def two(self, size=200):
        logits, labels = random_classes(size)
        noisy = logits + 2 * np.random.default_rng(9).normal(size=logits.shape)
        return evaluate(logits, labels, name="ours", resamples=0), evaluate(noisy, labels, name="noisy", resamples=0)

    def test_by_hand(self):
        # ours is right in rows 0, 1, 2, theirs in row 3: 3 against 1 are told apart by chance in 10 of 16 tosses
        right = [[9, 0], [9, 0], [0, 9], [9, 0]]
        ours = evaluate(right, [0, 0, 1, 1], name="a", resamples=0)
        theirs = evaluate([row[::-1] for row in right], [0, 0, 1, 1], name="b", resamples=0)
        found = compare_classifiers(ours, theirs, resamples=500)
        assert (found.names, found.count, found.accuracies) == (("a", "b"), 4, (0.75, 0.25))
        assert found.difference == 0.5
        assert found.p == pytest.approx(10 / 16)
        assert found.mcnemar == (3, 1, pytest.approx(10 / 16))

    def test_against_scipy(self):
        ours, theirs = self.two()
        found = compare_classifiers(ours, theirs, resamples=4000)
        only = int(np.sum(ours.correct() & ~theirs.correct())), int(np.sum(theirs.correct() & ~ours.correct()))
        assert (found.mcnemar.only_ours, found.mcnemar.only_theirs) == only
        assert found.mcnemar.p == pytest.approx(scipy.stats.binomtest(only[0], sum(only)).pvalue)
        columns = ours.correct().astype(float), theirs.correct().astype(float)
        theirs_p = scipy.stats.permutation_test(
            columns,
            lambda a, b, axis: np.mean(a - b, axis=axis),
            permutation_type="samples",
            n_resamples=4000,
            vectorized=True,
            rng=1,
        ).pvalue
        assert found.p == pytest.approx(theirs_p, abs=5e-3)
        interval = scipy.stats.bootstrap(
            columns, lambda a, b, axis: np.mean(a - b, axis=axis), paired=True, method="percentile", rng=1
        ).confidence_interval
        assert found.interval == pytest.approx(tuple(interval), abs=0.01)
        assert 0 < found.interval[0] < found.difference < found.interval[1]

    @settings(max_examples=30)
    @given(st.lists(st.tuples(*[st.integers(0, 1)] * 3), min_size=2, max_size=12).filter(lambda r: len({*r}) > 1))
    def test_turned_round_it_says_the_opposite(self, rows):
        first, second, labels = np.array(rows).T
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            a, b = (evaluate(np.eye(2)[guess], labels, resamples=0) for guess in (first, second))
        there, back = compare_classifiers(a, b, resamples=50), compare_classifiers(b, a, resamples=50)
        assert there.difference == -back.difference
        assert there.p == back.p
        assert there.mcnemar == (back.mcnemar.only_theirs, back.mcnemar.only_ours, back.mcnemar.p)
        assert there.interval == pytest.approx((-back.interval[1], -back.interval[0]))

    def test_in_words(self):
        found = compare_classifiers(*self.two(), resamples=300)
        title, accuracies, difference, test, mcnemar = str(found).splitlines()
        assert title == "ours against noisy: 200 pairs"
        assert accuracies.split() == f"accuracy {found.accuracies[0]:.3f} against {found.accuracies[1]:.3f}".split()
        assert f"{found.difference:+.3f}, {found.interval[0]:+.3f} to" in difference
        assert test.endswith(f"p = {found.p:.3g}")
        assert mcnemar.endswith(f"right only in ours: {found.mcnemar.only_ours}, only in noisy: {found.mcnemar[1]}")

    def test_other_pairs_are_refused(self):
        ours, theirs = self.two()
        for other in (self.two(100)[0], evaluate(theirs.scores, theirs.labels[::-1], resamples=0)):
            with pytest.raises(DataError, match=r"they are not the same; evaluate both on the same pairs"):
                compare_classifiers(ours, other)


class TestByTag:
    def test_by_hand(self):
        report = evaluate(LOGITS, resamples=0)  # right: yes no yes yes no
        values, intervals, counts = accuracy_by_tag(report, ["b", "a", "a", "a", None], resamples=100)
        assert values == {"a": pytest.approx(2 / 3), "None": 0, "b": 1}
        assert list(values) == list(intervals) == list(counts) == ["a", "None", "b"]
        assert counts == {"a": 3, "None": 1, "b": 1}
        assert intervals["b"] == (1, 1)
        assert intervals["a"] == bootstrap_interval(np.mean, [0, 1, 1], resamples=100)
        assert accuracy_by_tag(report, ["x"] * 5, resamples=0)[1] == {}

    @settings(max_examples=30)
    @given(st.lists(st.sampled_from("abc"), min_size=60, max_size=60))
    def test_the_tags_together_are_the_whole(self, tags):
        report = evaluate(*random_classes(60), resamples=0)
        values, _, counts = accuracy_by_tag(report, tags, resamples=0)
        assert sum(values[tag] * counts[tag] for tag in values) / 60 == pytest.approx(report.accuracy)

    def test_one_tag_a_pair(self):
        with pytest.raises(ValueError, match="5 labels and 2 tags"):
            accuracy_by_tag(evaluate(LOGITS, resamples=0), ["a", "b"])
