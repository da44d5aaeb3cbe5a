"""Losses of lists against those of sentence-transformers: values and gradients."""

from functools import partial

import pytest
import torch
from small_losses import CASES, LN2, batch, value_and_gradient
from torch import tensor

from crossenc_kit.losses.listwise import (
    adr_mse,
    group_cross_entropy,
    kl_divergence,
    listmle,
    listnet,
    multiple_negatives,
    position_aware_listmle,
)
from crossenc_kit.losses.pairwise import lambda_loss, margin_mse, ranknet


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
