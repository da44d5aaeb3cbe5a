"""Losses of lists: by hand, against sentence-transformers, gradients against finite differences, and their laws."""

import math
from functools import partial
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import tensor

from crossenc_kit.ranking_losses import (
    RANKING_LOSSES,
    WEIGHTINGS,
    adr_mse,
    approx_ndcg,
    group_cross_entropy,
    kl_divergence,
    lambda_loss,
    listmle,
    listnet,
    margin_mse,
    multiple_negatives,
    position_aware_listmle,
    ranknet,
)
from crossenc_kit.ranking_metrics import ndcg

CASES = {
    **RANKING_LOSSES,
    **{f"lambda_loss {weighting}": partial(lambda_loss, weighting=weighting) for weighting in WEIGHTINGS[:-1]},
    "lambda_loss at 2": partial(lambda_loss, k=2),
    "margin_mse against_first": partial(margin_mse, against_first=True),
    "multiple_negatives of raw scores": partial(multiple_negatives, scale=1.0, sigmoid=False),
    "kl_divergence at 3": partial(kl_divergence, temperature=3.0),
    "approx_ndcg at 0.5": partial(approx_ndcg, temperature=0.5),
}
ALL = pytest.mark.parametrize("name", CASES)
ASK_FOR_EQUAL_SCORES = ("group_cross_entropy", "listnet", "kl_divergence", "kl_divergence at 3", "adr_mse")
ASK_FOR_EQUAL_SCORES += ("margin_mse", "margin_mse against_first")
SAY_NOTHING_OF_EQUAL_LABELS = [
    *(name for name in CASES if name.startswith(("ranknet", "lambda_loss", "approx_ndcg")) and "loss1" not in name),
    *("listmle", "position_aware_listmle"),
]
SIZES = st.lists(st.integers(1, 6), min_size=1, max_size=4)
LN2 = math.log(2)


def batch(name, sizes=(4, 2, 6, 1, 3), seed=0, distinct=False, dtype=torch.float32):
    """Scores, labels and mask of lists of the given sizes; grades 0 to 3, or for one-positive losses one of 1."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(sizes), max(sizes))
    mask = torch.arange(shape[1]) < tensor(sizes)[:, None]
    labels = torch.randint(4, shape, generator=generator)
    if distinct:
        labels = torch.stack([torch.randperm(shape[1], generator=generator) for _ in sizes])
    if name.startswith("multiple_negatives"):
        labels = torch.arange(shape[1]) == (torch.rand(len(sizes), generator=generator) * tensor(sizes)).int()[:, None]
    scores = 2 * torch.randn(shape, generator=generator, dtype=torch.float64)
    return scores.to(dtype), labels.to(dtype) * mask, mask


def one(function, scores, labels, **options):
    """The loss of one list, as a float."""
    scores, labels = tensor([scores], dtype=torch.float64), tensor([labels], dtype=torch.float64)
    return function(scores, labels, torch.ones(scores.shape, dtype=torch.bool), **options).item()


def value_and_gradient(loss, scores, *arguments):
    leaf = scores.clone().requires_grad_()
    value = loss(leaf, *arguments)
    (gradient,) = torch.autograd.grad(value, leaf, allow_unused=True)
    return value.detach(), torch.zeros_like(leaf) if gradient is None else gradient


def each(loss, scores, labels, mask):
    """The mean of the loss over the lists, given to it one by one and without padding."""
    rows = [(scores[q : q + 1, row], labels[q : q + 1, row], row[row][None]) for q, row in enumerate(mask)]
    return torch.stack([loss(*row) for row in rows]).mean()


class TestByHand:
    def test_group_cross_entropy(self):
        scores = [0.0, math.log(3), math.log(4)]  # softmax 1/8, 3/8, 4/8
        assert one(group_cross_entropy, scores, [0, 1, 0]) == pytest.approx(-math.log(3 / 8))
        expected = -0.25 * math.log(1 / 8) - 0.75 * math.log(4 / 8)
        assert one(group_cross_entropy, scores, [1, 0, 3]) == pytest.approx(expected)
        assert one(group_cross_entropy, scores, [0, 0, 0]) == 0

    def test_multiple_negatives(self):
        scores = [0.0, math.log(3)]  # sigmoid 1/2 and 3/4; 4 (1/2 - 3/4) = -1
        assert one(multiple_negatives, scores, [1, 0], scale=4.0) == pytest.approx(math.log(1 + math.e))
        assert one(multiple_negatives, scores, [0, 1], scale=4.0) == pytest.approx(math.log(1 + 1 / math.e))
        assert one(multiple_negatives, scores, [1, 0], scale=1.0, sigmoid=False) == pytest.approx(-math.log(1 / 4))

    def test_listnet(self):
        # labels' distribution 1/3, 2/3; scores' 1/4, 3/4
        expected = -math.log(1 / 4) / 3 - 2 * math.log(3 / 4) / 3
        assert one(listnet, [0.0, math.log(3)], [0.0, LN2]) == pytest.approx(expected)

    def test_kl_divergence(self):
        expected = math.log((1 / 3) / (1 / 4)) / 3 + 2 * math.log((2 / 3) / (3 / 4)) / 3
        assert one(kl_divergence, [0.0, math.log(3)], [0.0, LN2]) == pytest.approx(expected)
        found = one(kl_divergence, [0.0, 5 * math.log(3)], [0.0, 5 * LN2], temperature=5.0)
        assert found == pytest.approx(25 * expected)

    def test_ranknet(self):
        # pairs of labels (2, 1), (2, 0), (1, 0) with score differences -ln 3, 0 and ln 3
        found = one(ranknet, [0.0, math.log(3), 0.0], [2, 1, 0])
        assert found == pytest.approx((math.log(4) + LN2 + math.log(4 / 3)) / 3)
        assert one(ranknet, [0.0, math.log(3)], [1, 0], sigma=2.0) == pytest.approx(math.log(10))

    @pytest.mark.parametrize(
        ("weighting", "weight"),
        [
            ("none", 1.0),
            # the grades 2 and 0 have gains 3 and 0, over a best DCG of 3: 1 and 0. The ranks are 2 and 1
            ("lambda_rank", 1 - 1 / math.log2(3)),
            ("ndcg_loss2", 1 - 1 / math.log2(3)),  # places that are 1 apart
            ("ndcg_loss2pp", 10 * (1 - 1 / math.log2(3)) + 1 - 1 / math.log2(3)),
        ],
    )
    def test_lambda_loss(self, weighting, weight):
        found = one(lambda_loss, [0.0, math.log(3)], [2, 0], weighting=weighting)
        assert found == pytest.approx(weight * math.log2(4))

    def test_the_first_ndcg_loss(self):
        # over all four pairs: gain 1 over the discount of rank 2, times log2 of 2 (with itself) and of 4
        found = one(lambda_loss, [0.0, math.log(3)], [2, 0], weighting="ndcg_loss1")
        assert found == pytest.approx((1 + 2) / math.log2(3) / 4)

    def test_margin_mse(self):
        assert one(margin_mse, [3.0, 1.0], [0.5, 0.0]) == pytest.approx((2 - 0.5) ** 2)
        # margins 1, 3 and 2 against 0, 1 and 1
        assert one(margin_mse, [3.0, 2.0, 0.0], [1, 1, 0]) == pytest.approx((1 + 4 + 1) / 3)
        assert one(margin_mse, [3.0, 2.0, 0.0], [1, 1, 0], against_first=True) == pytest.approx((1 + 4) / 2)

    def test_listmle(self):
        # weights e^s of 2, 1 and 3, in the order of the labels 1, 3, 2: 1/6, then 3/5
        assert one(listmle, [LN2, 0.0, math.log(3)], [0, 2, 1]) == pytest.approx(-math.log(1 / 6) - math.log(3 / 5))
        # two of label 1 compete with the one of label 0, not with each other: 1/3 and 3/5
        assert one(listmle, [LN2, 0.0, math.log(3)], [0, 1, 1]) == pytest.approx(-math.log(1 / 3) - math.log(3 / 5))

    def test_position_aware_listmle(self):
        # the places weigh 3, 1 and 0 of 4; equal labels on places 1 and 2 weigh 2 each
        first, second = -math.log(1 / 6), -math.log(3 / 5)
        found = one(position_aware_listmle, [LN2, 0.0, math.log(3)], [0, 2, 1])
        assert found == pytest.approx((3 * first + second) / 4)
        found = one(position_aware_listmle, [LN2, 0.0, math.log(3)], [0, 1, 1])
        assert found == pytest.approx((-2 * math.log(1 / 3) + 2 * second) / 4)

    def test_adr_mse(self):
        # soft ranks 1 + 3/4 and 1 + 1/4, for the ranks 1 and 2
        expected = ((3 / 4) ** 2 + (3 / 4) ** 2 / math.log2(3)) / 2
        assert one(adr_mse, [0.0, math.log(3)], [1, 0]) == pytest.approx(expected)
        assert one(adr_mse, [0.0, math.log(3) / 2], [1, 0], alpha=2.0) == pytest.approx(expected)
        # equal labels have the rank 1.5
        assert one(adr_mse, [0.0, math.log(3)], [1, 1]) == pytest.approx((1 / 4) ** 2 / math.log2(2.5))

    def test_approx_ndcg(self):
        # gains 3 and 1 on the soft ranks 1 + 3/4 and 1 + 1/4
        best = 3 + 1 / math.log2(3)
        expected = 1 - (3 / math.log2(2.75) + 1 / math.log2(2.25)) / best
        assert one(approx_ndcg, [0.0, math.log(3)], [2, 1]) == pytest.approx(expected)
        assert one(approx_ndcg, [0.0, 2 * math.log(3)], [2, 1], temperature=2.0) == pytest.approx(expected)

    def test_numbers_that_tensorflow_ranking_publishes(self):
        # tensorflow.org/ranking: ApproxNDCGLoss (temperature 0.1, negated), ListMLELoss, UniqueSoftmaxLoss
        two = tensor([[0.6, 0.8, 0.0], [0.5, 0.8, 0.4]]), tensor([[1.0, 0, 0], [0, 1, 0]])
        mask = tensor([[True, True, False], [True, True, True]])
        assert approx_ndcg(*two, mask, temperature=0.1).item() == pytest.approx(1 - 0.80536866)
        assert one(approx_ndcg, [0.6, 0.8], [1, 0], temperature=0.1) == pytest.approx(1 - 0.655107)
        assert one(listmle, [0.6, 0.8], [1, 0]) == pytest.approx(0.7981389)
        assert listmle(*two, mask).item() == pytest.approx(0.83911896)  # equal labels do not compete


class TestAgainstLoops:
    def test_margin_mse_is_the_mean_over_pairs(self):
        scores, labels, mask = batch("margin_mse", sizes=(5,))
        s, y = scores[0].tolist(), labels[0].tolist()
        squares = [((s[i] - s[j]) - (y[i] - y[j])) ** 2 for i, j in combinations(range(5), 2)]
        assert margin_mse(scores, labels, mask).item() == pytest.approx(np.mean(squares), rel=1e-5)

    def test_lambda_rank_weighs_a_pair_by_what_swapping_it_changes(self):
        scores, labels, mask = batch("lambda_loss", sizes=(6,), seed=3)
        s, gains = scores[0].double().numpy(), 2 ** labels[0].double().numpy() - 1
        costs = []
        for i, j in ((i, j) for i in range(6) for j in range(6) if gains[i] > gains[j]):
            swapped = s.copy()
            swapped[[i, j]] = s[[j, i]]
            costs.append(abs(ndcg(s, gains) - ndcg(swapped, gains)) * np.log2(1 + np.exp(s[j] - s[i])))
        found = lambda_loss(scores, labels, mask, weighting="lambda_rank")
        assert found.item() == pytest.approx(np.mean(costs), rel=1e-5)

    @settings(max_examples=20)
    @given(seed=st.integers(0, 1000), size=st.integers(2, 8))
    def test_approx_ndcg_nears_ndcg(self, seed, size):
        scores, labels, mask = batch("approx_ndcg", (size,), seed, dtype=torch.float64)
        if len(set(labels[0].tolist())) > 1:
            exact = ndcg(scores[0], 2 ** labels[0] - 1)
            found = approx_ndcg(scores, labels, mask, temperature=1e-9)
            assert found.item() == pytest.approx(1 - exact, abs=1e-6)


class Peer:
    """What sentence-transformers' losses give for scores `(Q, K)`: texts are numbers, a pair's score is looked up."""

    def __init__(self, scores):
        import sentence_transformers

        class LookUp(sentence_transformers.CrossEncoder):
            num_labels, device = 1, torch.device("cpu")

            def __init__(self):
                torch.nn.Sequential.__init__(self)

            def preprocess(self, pairs, **_):
                return {"rows": tensor([[int(query), int(document)] for query, document in pairs])}

            def forward(self, features):
                query, document = features["rows"].T
                return {"scores": scores[query, document][:, None]}

        self.model = LookUp()

    def lists(self, loss, labels, mask, **options):
        documents = [[str(k) for k in row.nonzero()[:, 0].tolist()] for row in mask]
        queries = [str(q) for q in range(len(mask))]
        return loss(self.model, **options)([queries, documents], [y[row] for y, row in zip(labels, mask, strict=True)])

    def columns(self, loss, columns, labels=None, **options):
        queries = [str(q) for q in range(len(columns[0]))]
        return loss(self.model, **options)([queries, *([str(d) for d in column] for column in columns)], labels)


def theirs_of_each(loss, scores, labels, mask, **options):
    """The mean of their loss over the lists: they pool the pairs (or documents) of a batch, the kit does not."""
    peer = Peer(scores)
    found = []
    for q in range(len(scores)):
        alone = torch.zeros_like(mask)
        alone[q] = mask[q]
        documents = [[str(k) for k in mask[q].nonzero()[:, 0].tolist()]]
        found.append(loss(peer.model, **options)([[str(q)], documents], [labels[q][mask[q]]]))
    return torch.stack(found).mean()


def assert_same(ours, theirs, scores, *arguments):
    """Values and gradients of two losses of `(scores, labels, mask)`."""
    found, expected = (value_and_gradient(loss, scores, *arguments) for loss in (ours, theirs))
    assert expected[1].abs().max() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


class TestAgainstSentenceTransformers:
    @pytest.fixture
    def losses(self):
        pytest.importorskip("sentence_transformers")
        from sentence_transformers.cross_encoder import losses

        return losses

    def test_listnet(self, losses):
        def theirs(scores, labels, mask):
            return Peer(scores).lists(losses.ListNetLoss, labels, mask)

        assert_same(listnet, theirs, *batch("listnet"))

    @pytest.mark.parametrize(
        ("loss", "peer", "unit"), [(ranknet, "RankNetLoss", LN2), (lambda_loss, "LambdaLoss", 1.0)]
    )
    def test_the_mean_over_the_pairs_of_all_lists(self, losses, loss, peer, unit):
        def theirs(scores, labels, mask):
            return Peer(scores).lists(getattr(losses, peer), labels, mask) * unit

        scores, labels, mask = batch(loss.__name__, sizes=(2, 9, 5))
        assert_same(partial(loss, mean_over="pairs"), theirs, scores, labels, mask)
        apart = loss(scores, labels, mask) - loss(scores, labels, mask, mean_over="pairs")
        assert abs(apart.item()) > 1e-3  # a mean of lists, where these differ in length, is another

    @pytest.mark.parametrize(("loss", "peer"), [(listmle, "ListMLELoss"), (position_aware_listmle, "PListMLELoss")])
    def test_listmle_with_labels_that_differ(self, losses, loss, peer):
        scores, labels, mask = batch("listmle", distinct=True)

        def sorted_by_label(scores, labels, mask):
            return Peer(scores).lists(getattr(losses, peer), labels, mask, respect_input_order=False)

        assert_same(loss, sorted_by_label, scores, labels, mask)

        def as_given(scores, labels, mask):  # their default: the order of the documents is the order to learn
            return Peer(scores).lists(getattr(losses, peer), labels, mask)

        assert_same(loss, as_given, scores, -torch.arange(scores.shape[1]).expand(scores.shape), mask)

    def test_the_weights_of_a_long_list_do_not_overflow(self, losses):
        scores, labels, mask = batch("listmle", sizes=(300, 150), distinct=True)

        def theirs(scores, labels, mask):
            return Peer(scores).lists(losses.PListMLELoss, labels, mask, respect_input_order=False)

        assert_same(position_aware_listmle, theirs, scores, labels, mask)

    def test_ranknet(self, losses):
        def theirs(scores, labels, mask):
            return theirs_of_each(losses.RankNetLoss, scores, labels, mask, reduction_log="natural", sigma=1.5)

        assert_same(partial(ranknet, sigma=1.5), theirs, *batch("ranknet"))

        def pooled(scores, labels, mask):  # lists with equally many pairs; their default logarithm is the binary one
            return Peer(scores).lists(losses.RankNetLoss, labels, mask) * LN2

        assert_same(ranknet, pooled, *batch("ranknet", sizes=(5, 5, 5), distinct=True))

    @pytest.mark.parametrize(
        ("weighting", "scheme"),
        [
            ("none", "NoWeightingScheme"),
            ("ndcg_loss1", "NDCGLoss1Scheme"),
            ("ndcg_loss2", "NDCGLoss2Scheme"),
            ("lambda_rank", "LambdaRankScheme"),
            ("ndcg_loss2pp", "NDCGLoss2PPScheme"),
        ],
    )
    @pytest.mark.parametrize("k", [None, 1, 3])
    def test_lambda_loss(self, losses, weighting, scheme, k):
        def theirs(scores, labels, mask):
            weigh = getattr(losses, scheme)()
            return theirs_of_each(losses.LambdaLoss, scores, labels, mask, weighting_scheme=weigh, k=k, sigma=0.7)

        scores, labels, mask = batch("lambda_loss", sizes=(4, 2, 6, 1, 3), seed=2)
        assert_same(partial(lambda_loss, weighting=weighting, k=k, sigma=0.7), theirs, scores, labels / 2, mask)

    def test_lambda_loss_by_default(self, losses):
        def theirs(scores, labels, mask):
            return Peer(scores).lists(losses.LambdaLoss, labels, mask)

        assert_same(lambda_loss, theirs, *batch("lambda_loss", sizes=(5, 5), distinct=True))
        options = {"weighting_scheme": losses.NDCGLoss2PPScheme(mu=3.0)}

        def with_mu(scores, labels, mask):
            return Peer(scores).lists(losses.LambdaLoss, labels, mask, **options)

        assert_same(partial(lambda_loss, mu=3.0), with_mu, *batch("lambda_loss", sizes=(5, 5), distinct=True))

    def test_adr_mse(self, losses):
        def theirs(scores, labels, mask):
            return theirs_of_each(losses.ADRMSELoss, scores, labels, mask, alpha=1.5)

        assert_same(partial(adr_mse, alpha=1.5), theirs, *batch("adr_mse"))

        def pooled(scores, labels, mask):  # lists of one length
            return Peer(scores).lists(losses.ADRMSELoss, labels, mask)

        assert_same(adr_mse, pooled, *batch("adr_mse", sizes=(4, 4, 4)))

    @pytest.mark.parametrize("size", [2, 4])
    def test_margin_mse_with_the_first_as_the_positive(self, losses, size):
        def theirs(scores, labels, mask):
            return Peer(scores).columns(losses.MarginMSELoss, [[k] * 5 for k in range(size)], labels)

        arguments = batch("margin_mse", sizes=(size,) * 5)
        assert_same(partial(margin_mse, against_first=True), theirs, *arguments)
        if size == 2:  # one pair a list: the same with and without
            assert_same(margin_mse, theirs, *arguments)

    @pytest.mark.parametrize("options", [{}, {"scale": 3.0, "sigmoid": False}], ids=str)
    @pytest.mark.parametrize("negatives", [0, 1])
    def test_multiple_negatives_from_the_batch(self, losses, options, negatives):
        size = 4  # documents 0..3 are the positives of the queries 0..3, 4..7 their negatives
        scores, _, mask = batch("multiple_negatives", sizes=(size * (1 + negatives),) * size)
        columns = [range(size), range(size, 2 * size)][: 1 + negatives]
        theirs_options = {"scale": 3.0, "activation_fn": torch.nn.Identity()} if options else {}

        def theirs(scores, labels, mask):
            peer = losses.MultipleNegativesRankingLoss
            return Peer(scores).columns(peer, columns, num_negatives=None, **theirs_options)

        assert_same(partial(multiple_negatives, **options), theirs, scores, torch.arange(size), mask)

    def test_group_cross_entropy_is_cross_entropy_over_the_list(self):
        def theirs(scores, labels, mask):
            return torch.nn.functional.cross_entropy(scores, labels.argmax(1))

        scores, labels, mask = batch("multiple_negatives", sizes=(5, 5, 5))
        assert_same(group_cross_entropy, theirs, scores, labels, mask)
        assert_same(CASES["multiple_negatives of raw scores"], theirs, scores, labels, mask)

    @pytest.mark.parametrize("temperature", [1.0, 2.5])
    def test_kl_divergence(self, temperature):
        pytest.importorskip("sentence_transformers")
        from sentence_transformers.sentence_transformer.losses import DistillKLDivLoss

        def product(query, document):
            return (query * document).sum(1)

        def theirs(scores, labels, mask):  # embeddings of one number: 1 for the query, the score for a document
            loss = DistillKLDivLoss(torch.nn.Identity(), similarity_fct=product, temperature=temperature)
            embeddings = [torch.ones(len(scores), 1), *scores.T[:, :, None]]
            return loss.compute_loss_from_embeddings(embeddings, labels)

        ours = partial(kl_divergence, temperature=temperature)
        assert_same(ours, theirs, *batch("kl_divergence", sizes=(4, 4, 4)))


class TestLaws:
    @ALL
    def test_gradients_are_the_finite_differences(self, name):
        scores, labels, mask = batch(name, dtype=torch.float64)
        leaf = scores.requires_grad_()
        assert torch.autograd.gradcheck(lambda s: CASES[name](s, labels, mask), (leaf,), eps=1e-6, atol=1e-7)

    @ALL
    @settings(max_examples=20)
    @given(seed=st.integers(0, 1000), sizes=SIZES)
    def test_the_loss_is_the_mean_over_lists_and_never_negative(self, name, seed, sizes):
        arguments = batch(name, sizes, seed)
        found = CASES[name](*arguments)
        torch.testing.assert_close(found, each(CASES[name], *arguments))
        assert found >= -1e-6

    @ALL
    @settings(max_examples=20)
    @given(seed=st.integers(0, 1000), sizes=SIZES, junk=st.sampled_from([0.0, 1e30, math.inf, math.nan]))
    def test_what_stands_in_the_padding_changes_nothing(self, name, seed, sizes, junk):
        scores, labels, mask = batch(name, sizes, seed)
        expected, gradient = value_and_gradient(CASES[name], scores, labels, mask)
        more = torch.cat([mask, torch.zeros(len(sizes), 3, dtype=torch.bool)], 1)
        wider = [torch.full(more.shape, junk).masked_scatter(more, column[mask]) for column in (scores, labels)]
        order = torch.randperm(more.shape[1] - 1, generator=torch.Generator().manual_seed(seed)) + 1
        order = torch.cat([tensor([0]), order])  # padding between the documents too, but none before the first
        found, wide = value_and_gradient(CASES[name], *(column[:, order] for column in (*wider, more)))
        torch.testing.assert_close(found, expected)
        back = wide[:, order.argsort()]
        torch.testing.assert_close(back[more], gradient[mask])
        assert not back[~more].any()

    @ALL
    @settings(max_examples=20)
    @given(seed=st.integers(0, 1000), size=st.integers(1, 7), equal=st.booleans())
    def test_the_order_of_the_documents_does_not_matter(self, name, seed, size, equal):
        scores, labels, mask = batch(name, (size, size), seed)
        scores = scores.round() if equal else scores  # equal scores, and documents alike in score and label
        keep = name.endswith("against_first")
        order = torch.randperm(size - keep, generator=torch.Generator().manual_seed(seed)) + int(keep)
        order = torch.cat([tensor([0] * keep, dtype=torch.long), order])
        expected, gradient = value_and_gradient(CASES[name], scores, labels, mask)
        found, moved = value_and_gradient(CASES[name], scores[:, order], labels[:, order], mask)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(moved, gradient[:, order])

    @ALL
    @settings(max_examples=20)
    @given(seed=st.integers(0, 1000), shift=st.floats(-50, 50))
    def test_only_differences_of_scores_count(self, name, seed, shift):
        scores, labels, mask = batch(name, seed=seed, dtype=torch.float64)
        if name != "multiple_negatives":
            moved = CASES[name](scores + shift, labels, mask)
            torch.testing.assert_close(moved, CASES[name](scores, labels, mask), rtol=1e-9, atol=1e-9)

    @ALL
    @settings(max_examples=20)
    @given(seed=st.integers(0, 1000), size=st.sampled_from([1e4, -1e4]))
    def test_nothing_overflows_far_out(self, name, seed, size):
        scores, labels, mask = batch(name, seed=seed)
        for far in (size * scores.sign(), size * torch.ones_like(scores), size * scores):
            value, gradient = value_and_gradient(CASES[name], far, labels, mask)
            assert torch.isfinite(value)
            assert torch.isfinite(gradient).all()

    @ALL
    @pytest.mark.parametrize("grade", [1e-30, 100.0, 1e4])
    def test_small_and_large_labels(self, name, grade):
        scores, labels, mask = batch(name)
        value, gradient = value_and_gradient(CASES[name], scores, labels * grade, mask)
        assert torch.isfinite(value)
        assert torch.isfinite(gradient).all()

    @ALL
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_scores_give_a_float32_loss(self, name, dtype):
        scores, labels, mask = batch(name)
        found = CASES[name](scores.to(dtype), labels.double(), mask)
        assert found.dtype == torch.float32
        assert found.shape == ()
        torch.testing.assert_close(found, CASES[name](scores.to(dtype).float(), labels, mask), rtol=0, atol=0)

    @ALL
    def test_a_score_that_is_no_number_is_not_hidden(self, name):
        scores, labels, mask = batch(name, sizes=(4, 4), distinct=True)
        scores[1, 0] = math.nan
        assert CASES[name](scores, labels, mask).isnan()

    @ALL
    def test_a_step_down_the_gradient_lowers_the_loss(self, name):
        scores, labels, mask = batch(name)
        value, gradient = value_and_gradient(CASES[name], scores, labels, mask)
        assert gradient.abs().max() > 1e-4
        assert CASES[name](scores - 1e-2 * gradient, labels, mask) < value


class TestListsThatSayLittle:
    @ALL
    def test_one_document(self, name):
        scores, labels, mask = tensor([[3.0, 7.0]]), tensor([[1.0, 2.0]]), tensor([[True, False]])
        value, gradient = value_and_gradient(CASES[name], scores, labels, mask)
        assert value.item() == (name == "lambda_loss ndcg_loss1")  # it compares a document with itself too
        assert not gradient.any()

    @pytest.mark.parametrize(
        ("name", "grade"),
        [
            *((name, grade) for name in SAY_NOTHING_OF_EQUAL_LABELS for grade in (0.0, 2.0)),
            ("group_cross_entropy", 0.0),  # no positive
            ("lambda_loss ndcg_loss1", 0.0),
        ],
    )
    def test_equal_labels_that_cost_nothing(self, name, grade):
        scores, labels, mask = batch(name)
        value, gradient = value_and_gradient(CASES[name], scores, torch.full_like(labels, grade), mask)
        assert value.item() == 0
        assert not gradient.any()

    @ALL
    @pytest.mark.parametrize("grade", [0.0, 1.0, 3.0])
    def test_equal_labels_are_defined(self, name, grade):
        scores, labels, mask = batch(name)
        arguments = (torch.full_like(labels, grade), mask)
        if name.startswith("multiple_negatives"):
            with pytest.raises(ValueError, match=r"list 0 has [04] positives among its documents"):
                CASES[name](scores, *arguments)
            return
        for some in (scores, 0 * scores, 1e4 * scores):
            value, gradient = value_and_gradient(CASES[name], some, *arguments)
            assert torch.isfinite(value)
            assert torch.isfinite(gradient).all()

    @pytest.mark.parametrize("name", ASK_FOR_EQUAL_SCORES)
    def test_equal_labels_ask_for_equal_scores(self, name):
        scores, labels, mask = batch(name, sizes=(4, 4))
        equal = torch.ones_like(labels)
        value, gradient = value_and_gradient(CASES[name], scores, equal, mask)
        least, none = value_and_gradient(CASES[name], 0 * scores + 5, equal, mask)
        assert value > least
        assert (gradient * (scores - scores.mean(1, keepdim=True))).sum() > 0  # a step brings the scores together
        torch.testing.assert_close(none, torch.zeros_like(none), rtol=0, atol=1e-6)
        expected = math.log(4) if name in ("group_cross_entropy", "listnet") else 0.0
        assert least.item() == pytest.approx(expected, abs=1e-6)

    @pytest.mark.parametrize("weighting", [w for w in WEIGHTINGS if w != "none"])
    def test_a_model_that_scores_all_alike_still_learns(self, weighting):
        scores, labels, mask = torch.zeros(1, 3), tensor([[0.0, 1.0, 2.0]]), torch.ones(1, 3, dtype=torch.bool)
        _, gradient = value_and_gradient(partial(lambda_loss, weighting=weighting), scores, labels, mask)
        if weighting == "ndcg_loss1":  # weighs documents, not pairs: equal scores are its ranking already
            assert gradient[0, 2] < 0
        else:
            assert gradient[0, 2] < gradient[0, 1] < gradient[0, 0]

    def test_the_best_order_is_the_least_approx_ndcg(self):
        scores, labels = tensor([[30.0, 20.0, 10.0]]), tensor([[3.0, 1.0, 0.0]])
        mask = torch.ones(1, 3, dtype=torch.bool)
        assert approx_ndcg(scores, labels, mask).item() == pytest.approx(0, abs=1e-3)
        assert approx_ndcg(-scores, labels, mask).item() > 0.3


class TestErrors:
    @ALL
    def test_shapes(self, name):
        loss, mask = CASES[name], torch.ones(2, 3, dtype=torch.bool)
        message = r"^scores have shape \(2, 3\), labels \(2, 2\), the mask \(2, 3\); expected one shape \(Q, K\)"
        with pytest.raises(ValueError, match=message):
            loss(torch.zeros(2, 3), torch.zeros(2, 2), mask)
        with pytest.raises(ValueError, match=r"the mask \(2, 3\); expected one shape"):
            loss(torch.zeros(2, 4), torch.zeros(2, 4), mask)
        with pytest.raises(ValueError, match=r"scores have shape \(3,\), .* expected one shape \(Q, K\)"):
            loss(torch.zeros(3), torch.zeros(3), mask[0])
        with pytest.raises(ValueError, match="with Q and K at least 1"):
            loss(torch.zeros(0, 3), torch.zeros(0, 3), mask[:0])

    @ALL
    def test_masks(self, name):
        scores, labels, mask = batch(name, sizes=(2, 3))
        with pytest.raises(ValueError, match=r"the mask has dtype torch.float32; expected torch.bool"):
            CASES[name](scores, labels, mask.float())
        mask[1] = False
        with pytest.raises(ValueError, match="list 1 has no documents: the mask is False in its whole row"):
            CASES[name](scores, labels, mask)

    @ALL
    def test_labels_that_are_no_numbers(self, name):
        scores, labels, mask = batch(name, sizes=(2, 3))
        labels[1, 2] = math.nan
        with pytest.raises(ValueError, match=r"^list 1, document 2: the label is nan; (grades|labels) are finite"):
            CASES[name](scores, labels, mask)

    @ALL
    def test_labels_below_0(self, name):
        scores, labels, mask = batch(name, sizes=(2, 3))
        labels[1, 2] = -0.5
        takes_any = ("ranknet", "lambda_loss none", "listmle", "position_aware_listmle", *ASK_FOR_EQUAL_SCORES[1:])
        if name in takes_any:
            assert torch.isfinite(CASES[name](scores, labels, mask))
            return
        with pytest.raises(ValueError, match=r"^list 1, document 2: the label is -0.5; grades are .* not below 0$"):
            CASES[name](scores, labels, mask)

    def test_positives_of_multiple_negatives(self):
        scores, mask = torch.zeros(2, 3), tensor([[True, True, True], [True, True, False]])
        with pytest.raises(ValueError, match="list 1 has 2 positives among its documents, and multiple_negatives"):
            multiple_negatives(scores, tensor([[1.0, 0, 0], [1, 1, 0]]), mask)
        for column in (2, 3, -1):  # padding, or no column at all
            with pytest.raises(ValueError, match=r"list 1 has 0 positives among .*; group_cross_entropy takes any"):
                multiple_negatives(scores, tensor([0, column]), mask)
        with pytest.raises(ValueError, match=r"labels \(3, 3\), the mask \(2, 3\)"):
            multiple_negatives(scores, tensor([0, 1, 1]), mask)

    def test_a_first_document_that_is_masked(self):
        scores, mask = torch.zeros(2, 2), tensor([[True, True], [False, True]])
        with pytest.raises(ValueError, match="list 1: the first document is masked, and against_first compares"):
            margin_mse(scores, scores, mask, against_first=True)

    @pytest.mark.parametrize(
        ("loss", "options"),
        [
            (multiple_negatives, "scale"),
            (kl_divergence, "temperature"),
            (ranknet, "sigma"),
            (lambda_loss, "sigma"),
            (adr_mse, "alpha"),
            (approx_ndcg, "temperature"),
        ],
    )
    @pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf, True, "1"])
    def test_options_that_must_be_above_0(self, loss, options, value):
        with pytest.raises(ValueError, match=f"^{options} must be a finite number above 0, got {value!r}$"):
            loss(*batch(loss.__name__), **{options: value})

    def test_options_of_lambda_loss(self):
        with pytest.raises(ValueError, match="unknown weighting 'ndcg'; choose from none, ndcg_loss1, ndcg_loss2, lam"):
            lambda_loss(*batch("lambda_loss"), weighting="ndcg")
        for k in (0, 2.5, True):
            with pytest.raises(ValueError, match=f"k must be a whole number, at least 1, or None, got {k}"):
                lambda_loss(*batch("lambda_loss"), k=k)
        for mu in (-1.0, math.nan):
            with pytest.raises(ValueError, match=f"mu must be a finite number, 0 or more, got {mu}"):
                lambda_loss(*batch("lambda_loss"), mu=mu)

    def test_options_that_are_true_or_false(self):
        with pytest.raises(ValueError, match="sigmoid must be True or False, got 'no'"):
            multiple_negatives(*batch("multiple_negatives"), sigmoid="no")
        with pytest.raises(ValueError, match="against_first must be True or False, got 1"):
            margin_mse(*batch("margin_mse"), against_first=1)


def test_every_loss_has_its_name_and_a_source():
    assert list(RANKING_LOSSES) == [function.__name__ for function in RANKING_LOSSES.values()]
    assert len(RANKING_LOSSES) == 11
    for function in RANKING_LOSSES.values():
        assert "et al." in function.__doc__, function.__name__
