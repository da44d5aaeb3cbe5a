"""Hard negatives against sentence-transformers' own mining, with a stand-in for its model: vectors drawn at random."""

import numpy as np
import pytest

from crossenc_kit.data import Collection
from crossenc_kit.errors import DataError
from crossenc_kit.retrieval import dense_index, mine_hard_negatives

SIZE = 60  # documents


def collection(rng, most_positives):
    texts = [f"document {i}" for i in range(SIZE)]
    queries = {f"q{i}": f"query {i}" for i in range(12)}
    vectors = dict(zip([*texts, *queries.values()], rng.normal(size=(SIZE + 12, 8)), strict=True))
    vectors = {text: (vector / np.linalg.norm(vector)).astype(np.float32) for text, vector in vectors.items()}
    for query in queries.values():  # positives that are usually, not always, near the top
        vectors[query] += 1.2 * vectors[texts[int(rng.integers(SIZE))]]
    documents = {str(i): text for i, text in enumerate(texts)}
    near = {q: np.argsort([-vectors[t] @ vectors[texts[i]] for i in range(SIZE)]) for q, t in queries.items()}
    qrels = {
        q: dict.fromkeys(map(str, rng.choice(near[q][:15], rng.integers(1, most_positives + 1), replace=False)), 1)
        for q in queries
    }
    return queries, documents, qrels, lambda some: np.stack([vectors[text] for text in some])


def theirs(queries, documents, qrels, encode, cross=None, **options):
    """Their rows as (query text, document texts, labels)."""
    datasets = pytest.importorskip("datasets")
    util = pytest.importorskip("sentence_transformers.util")
    torch = pytest.importorskip("torch")

    class Model:
        device = "cpu"
        encode_document = encode_query = staticmethod(lambda texts, **kwargs: encode(texts))
        similarity = staticmethod(lambda a, b: torch.as_tensor(a) @ torch.as_tensor(b).T)
        similarity_pairwise = staticmethod(lambda a, b: (torch.as_tensor(a) * torch.as_tensor(b)).sum(-1))

    class Cross:
        predict = staticmethod(lambda pairs, **kwargs: torch.as_tensor(cross(pairs), dtype=torch.float32))

    rows = [(queries[q], documents[d]) for q, ids in qrels.items() for d in ids]
    data = datasets.Dataset.from_dict({"query": [q for q, _ in rows], "answer": [d for _, d in rows]})
    options = {"output_format": "labeled-list", "verbose": False, "corpus": list(documents.values()), **options}
    mined = util.mine_hard_negatives(data, Model(), cross_encoder=Cross() if cross else None, **options)
    return [(row["query"], row["answer"], row["labels"]) for row in mined]


def ours(queries, documents, qrels, encode, cross=None, **options):
    search = dense_index(documents, encode)
    options = {"first_stage": search, "cross_encoder": cross, **options}
    mined = mine_hard_negatives(Collection(queries, documents, qrels), **options)
    return [(e.texts[0], e.texts[1:], e.label) for e in mined.pairs], mined


@pytest.mark.parametrize("most_positives", [1, 3])
def test_the_same_negatives_whatever_the_options(most_positives, capfd):
    differ = set()
    for seed in range(25):
        rng = np.random.default_rng(seed)
        data = collection(rng, most_positives)
        options = {"num_negatives": int(rng.integers(1, 6)), "range_min": int(rng.integers(0, 4))}
        options["range_max"] = options["range_min"] + options["num_negatives"] + int(rng.integers(0, 12))
        choices = {"absolute_margin": 0.1, "relative_margin": 0.15, "max_score": 0.7, "min_score": 0.2}
        options |= {name: value for name, value in choices.items() if rng.random() < 0.4}
        expected = theirs(*data, **options)
        differ.add(len(expected))
        if expected:
            assert ours(*data, **options)[0] == expected, options
        else:
            with pytest.raises(DataError, match="no query has a negative"):
                ours(*data, **options)
    assert len(differ) > 5  # the options did something


def test_the_same_negatives_with_a_cross_encoder(capfd):
    for seed in range(6):
        rng = np.random.default_rng(seed)
        data = collection(rng, 2)
        scores = dict(zip(data[1].values(), rng.normal(size=SIZE), strict=True))
        cross = lambda pairs, scores=scores: np.array([scores[document] for _, document in pairs])  # noqa: E731
        options = {"num_negatives": 3, "range_min": seed % 2, "range_max": 15, "absolute_margin": 0.1}
        options |= {"max_score": 1.0, "cross": cross}
        assert ours(*data, **options)[0] == theirs(*data, **options)


def test_random_negatives_are_from_the_same_candidates(capfd):
    data = collection(np.random.default_rng(0), 1)
    options = {"num_negatives": 3, "range_min": 1, "range_max": 8, "relative_margin": 0.05}
    mined = ours(*data, **options, sampling="random")[1]
    seen = {query: set() for query in data[0].values()}
    sizes = set()
    for _ in range(40):
        rows = theirs(*data, **options, sampling_strategy="random")
        sizes.add(tuple((query, len(texts)) for query, texts, _ in rows))
        for query, texts, _ in rows:
            seen[query].update(texts[1:])
    documents = data[1]
    for query, text in data[0].items():
        assert {documents[d] for d in mined.candidates.get(query, ())} == seen[text]
    assert sizes == {tuple((e.texts[0], len(e.texts) - 1) for e in mined.pairs)}
