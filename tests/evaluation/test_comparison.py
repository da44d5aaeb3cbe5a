"""Two systems on the same items: known answers, scipy's, and what chance does."""

import itertools
import tracemalloc
import warnings

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from crossenc_kit.data import Pairs
from crossenc_kit.errors import DataError
from crossenc_kit.evaluation import compare_classifiers, evaluate_classification, mcnemar, randomisation_test

BOTH = pytest.mark.parametrize("test", [randomisation_test, mcnemar])
MARKS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=60)
FEW = st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=1, max_size=8)


def marks(only_ours, only_theirs, both=0, neither=0):
    """Two columns of right and wrong with the given counts."""
    ours = [1] * only_ours + [0] * only_theirs + [1] * both + [0] * neither
    theirs = [0] * only_ours + [1] * only_theirs + [1] * both + [0] * neither
    return ours, theirs


class TestRandomisation:
    def test_by_hand(self):
        # sums of (+-1, +-2, +-3): 6 twice of 8 (all signs equal)
        assert randomisation_test([1, 2, 3], [0, 0, 0]) == 2 / 8
        # observed 1 + 2 - 3 = 0: every pattern is at least as far from 0
        assert randomisation_test([1, 2, -3], [0, 0, 0]) == 1
        # observed -1 + 2 + 3 = 4: 4 and 6 of either sign
        assert randomisation_test([0, 2, 3], [1, 0, 0]) == 4 / 8
        assert type(randomisation_test([1, 2], [0, 0])) is float

    def test_equal_systems(self):
        assert randomisation_test([0.1, 0.7], [0.1, 0.7]) == 1
        assert randomisation_test(np.arange(100), np.arange(100)) == 1

    def test_sums_that_differ_by_rounding_are_ties(self):
        # 0.1 + 0.2 - 0.3 is not 0 in floating point, and 0.1 + 0.2 > 0.3; in tenths there is no such thing
        differences = [0.1, 0.2, 0.3, -0.6, 0.7, 0.1]
        for signs in itertools.product((-1, 1), repeat=6):
            ours = np.multiply(signs, differences)
            tenths = np.round(10 * ours)
            assert randomisation_test(ours, np.zeros(6)) == randomisation_test(tenths, np.zeros(6))

    @settings(max_examples=50)
    @given(FEW)
    def test_few_items_against_scipy_and_every_sign(self, rows):
        ours, theirs = map(np.asarray, zip(*rows, strict=True))
        difference = ours - theirs
        sums = [np.dot(signs, difference) for signs in itertools.product((-1, 1), repeat=len(rows))]
        p = randomisation_test(ours, theirs)
        assert p == np.mean(np.abs(sums) >= abs(difference.sum()))
        if len(rows) > 1:
            theirs = scipy.stats.permutation_test(
                (ours, theirs),
                lambda x, y, axis: np.mean(x - y, axis=axis),
                permutation_type="samples",
                vectorized=True,
            )
            assert p == pytest.approx(theirs.pvalue)

    @pytest.mark.parametrize("gain", [0.0, 0.1, 0.2])
    def test_many_items_against_scipy(self, gain):
        rng = np.random.default_rng(0)
        theirs = rng.normal(size=200)
        ours = theirs + gain + rng.normal(size=200)
        reference = scipy.stats.permutation_test(
            (ours, theirs), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples", vectorized=True,
            n_resamples=20_000, rng=1,
        )  # fmt: skip
        assert randomisation_test(ours, theirs) == pytest.approx(reference.pvalue, abs=0.02)

    def test_thirteen_items_by_chance_are_close_to_all_their_signs(self):
        difference = np.random.default_rng(2).normal(0.3, 1, size=13)
        signs = np.array(list(itertools.product((-1, 1), repeat=13)))
        exact = np.mean(np.abs(signs @ difference) >= abs(difference.sum()) - 1e-12)
        p = randomisation_test(difference, np.zeros(13))
        assert p == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 10_000))
        assert p * 10_001 == pytest.approx(round(p * 10_001))  # sampled, with the observed one among the 10,001

    def test_p_is_never_0(self):
        ours = np.arange(1.0, 101)
        assert randomisation_test(ours, np.zeros(100), resamples=99) == 1 / 100

    def test_items_without_a_difference_do_not_count(self):
        ours, theirs = np.array([3.0, 1, 2, 5]), np.array([1.0, 2, 1, 2])
        more = [np.concatenate([column, np.arange(50.0)]) for column in (ours, theirs)]
        assert randomisation_test(*more) == randomisation_test(ours, theirs)

    def test_the_seed_alone_decides(self):
        rng = np.random.default_rng(0)
        ours, theirs = rng.normal(size=(2, 40))
        assert randomisation_test(ours, theirs, seed=1) == randomisation_test(ours, theirs, seed=1)
        assert randomisation_test(ours, theirs, seed=1) != randomisation_test(ours, theirs, seed=2)

    @settings(max_examples=30)
    @given(st.integers(0, 1000), st.sampled_from([5, 40]), st.floats(0.5, 100))
    def test_neither_side_is_favoured_and_the_unit_does_not_matter(self, seed, size, unit):
        ours, theirs = np.random.default_rng(seed).normal(size=(2, size))
        p = randomisation_test(ours, theirs, resamples=500)
        assert randomisation_test(theirs, ours, resamples=500) == p
        assert randomisation_test(unit * ours, unit * theirs, resamples=500) == p
        assert randomisation_test(ours + 1, theirs + 1, resamples=500) == pytest.approx(p)

    @pytest.mark.parametrize("size", [8, 30])
    def test_equal_systems_seldom_look_different(self, size):
        """With no true difference, p <= 0.1 in at most 1 of 10 samples; 300 samples, 3 standard errors."""
        rng = np.random.default_rng(0)
        values = [randomisation_test(*rng.normal(size=(2, size)), resamples=199, seed=i) for i in range(300)]
        share = np.mean(np.array(values) <= 0.1)
        assert share == pytest.approx(0.1, abs=3 * np.sqrt(0.1 * 0.9 / 300))

    def test_a_true_gain_is_seen(self):
        rng = np.random.default_rng(0)
        theirs = rng.normal(size=300)
        assert randomisation_test(theirs + 0.05 + 0.1 * rng.normal(size=300), theirs) < 0.001

    def test_a_hundred_thousand_items_need_little_memory(self):
        ours, theirs = np.random.default_rng(0).normal(size=(2, 100_000))
        tracemalloc.start()
        try:
            p = randomisation_test(ours, theirs, resamples=1000)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert most < 20e6  # bytes; the signs of all resamples are 100e6
        expected = 2 * scipy.stats.norm.sf(abs(np.sum(ours - theirs)) / np.sqrt(np.sum((ours - theirs) ** 2)))
        assert p == pytest.approx(expected, abs=0.06)


class TestMcNemar:
    def test_by_hand(self):
        # 1 against 4 of 5 coins: 2 (1 + 5) / 32
        assert mcnemar(*marks(4, 1, both=3, neither=2)) == (4, 1, pytest.approx(12 / 32))
        assert mcnemar(*marks(0, 3)) == (0, 3, pytest.approx(2 / 8))
        assert mcnemar(*marks(2, 2)).p == 1
        assert mcnemar(*marks(1, 0)).p == 1

    def test_no_discordant_pair(self):
        assert mcnemar(*marks(0, 0, both=5, neither=2)) == (0, 0, 1.0)

    def test_types(self):
        found = mcnemar(np.array([True, False]), [0.0, 0.0])
        assert [type(value) for value in found] == [int, int, float]
        assert found == (1, 0, 1.0)

    @pytest.mark.parametrize(
        ("ours", "theirs"), [(3, 9), (9, 3), (10, 10), (10, 11), (0, 50), (120, 90), (5000, 5200), (1, 2000)]
    )
    def test_against_scipy(self, ours, theirs):
        expected = scipy.stats.binomtest(ours, ours + theirs).pvalue
        assert mcnemar(*marks(ours, theirs, both=4)).p == pytest.approx(expected, rel=1e-9)

    @given(MARKS, st.randoms(use_true_random=False))
    def test_laws(self, rows, random):
        ours, theirs = map(np.asarray, zip(*rows, strict=True))
        found = mcnemar(ours, theirs)
        assert found.only_ours - found.only_theirs == ours.sum() - theirs.sum()
        assert mcnemar(theirs, ours) == (found.only_theirs, found.only_ours, found.p)
        assert mcnemar(1 - ours, 1 - theirs) == (found.only_theirs, found.only_ours, found.p)
        random.shuffle(rows)
        assert mcnemar(*zip(*rows, strict=True)) == found

    @settings(max_examples=50)
    @given(st.integers(0, 6), st.integers(0, 6))
    def test_it_is_the_randomisation_test_of_right_and_wrong(self, ours, theirs):
        columns = marks(ours, theirs, both=5)
        assert mcnemar(*columns).p == pytest.approx(randomisation_test(*columns))


@BOTH
@pytest.mark.parametrize(
    ("ours", "theirs", "message"),
    [
        ([1, np.nan], [0, 1], "must be finite numbers"),
        ([1, 0, 1], [0, 1], r"ours has shape \(3,\) and theirs \(2,\)"),
        ([[1, 0]], [[0, 1]], r"ours has shape \(1, 2\)"),
        ([], [], r"ours has shape \(0,\)"),
    ],
)
def test_columns_that_cannot_be_compared(test, ours, theirs, message):
    with pytest.raises(ValueError, match=message):
        test(ours, theirs)


def test_no_resamples():
    with pytest.raises(ValueError, match="resamples must be at least 1, got 0"):
        randomisation_test([1, 2], [0, 0], resamples=0)


def evaluate(scores, labels, **options):
    """Report a scorer that answers `scores`."""
    pairs = Pairs([f"l{i}" for i in range(len(labels))], ["r"] * len(labels), np.asarray(labels))
    return evaluate_classification(lambda texts: np.asarray(scores, float), pairs, **options)


def random_classes(size):
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=size)
    return 2 * np.eye(3)[labels] + rng.normal(size=(size, 3)), labels


class TestClassifiers:
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
        assert (found.names, found.count, found.means) == (("a", "b"), 4, (0.75, 0.25))
        assert found.difference == 0.5
        assert found.p == pytest.approx(10 / 16)
        assert (found.wins, found.ties, found.losses) == (3, 0, 1)
        assert found.mcnemar == pytest.approx(10 / 16)

    def test_against_scipy(self):
        ours, theirs = self.two()
        found = compare_classifiers(ours, theirs, resamples=4000)
        only = int(np.sum(ours.correct() & ~theirs.correct())), int(np.sum(theirs.correct() & ~ours.correct()))
        assert (found.wins, found.losses) == only
        assert found.mcnemar == pytest.approx(scipy.stats.binomtest(only[0], sum(only)).pvalue)
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
        assert (there.wins, there.losses, there.mcnemar) == (back.losses, back.wins, back.mcnemar)
        assert there.interval == pytest.approx((-back.interval[1], -back.interval[0]))

    def test_in_words_and_as_metrics(self):
        found = compare_classifiers(*self.two(), resamples=300)
        title, accuracies, difference, test, mcnemar, counts = str(found).splitlines()
        (ours, theirs), (low, high) = found.means, found.interval
        assert title == "ours against noisy: 200 pairs"
        assert accuracies.split() == f"accuracy {ours:.3f} against {theirs:.3f}".split()
        assert f"{found.difference:+.3f}, {low:+.3f} to {high:+.3f}" in difference
        assert test.endswith(f"p = {found.p:.3g}")
        assert mcnemar == f"  McNemar's test      p = {found.mcnemar:.3g}"
        assert counts == f"  pairs               {found.wins} better, {found.ties} equal, {found.losses} worse"
        assert next(iter(found.metrics.items())) == ("difference", found.difference)
        assert found.to_dict()["differences"] == found.differences.tolist()

    def test_other_pairs_are_refused(self):
        ours, theirs = self.two()
        for other in (self.two(100)[0], evaluate(theirs.scores, theirs.labels[::-1], resamples=0)):
            with pytest.raises(DataError, match=r"they are not the same; evaluate both on the same pairs"):
                compare_classifiers(ours, other)
