"""The search collection of the sample data is what its data sheet says."""

import math
import re
from collections import Counter, defaultdict

import pytest

from crossenc_kit.data.tables import read_jsonl, read_tsv
from crossenc_kit.evaluation.ranking_metrics import ndcg
from crossenc_kit.files import shipped

FOLDER = shipped("data") / "ranking"
SHEET = (FOLDER / "README.md").read_text(encoding="utf-8")
SPLITS = ("train", "dev", "test")


@pytest.fixture(scope="module")
def corpus():
    return {row["_id"]: row["text"] for _, row in read_jsonl(FOLDER / "corpus.jsonl")}


@pytest.fixture(scope="module")
def queries():
    return {row["_id"]: row for _, row in read_jsonl(FOLDER / "queries.jsonl")}


@pytest.fixture(scope="module")
def qrels():
    found = {split: defaultdict(dict) for split in SPLITS}
    for split in SPLITS:
        for _, row in read_tsv(FOLDER / "qrels" / f"{split}.tsv"):
            found[split][row["query-id"]][row["corpus-id"]] = int(row["score"])
    return found


def test_there_is_as_much_as_said(corpus, queries, qrels):
    assert (len(corpus), len(set(corpus.values())), len({row["topic"] for row in queries.values()})) == (576, 576, 48)
    for grade in (3, 2, 1, 0):
        counts = [sum(list(own.values()).count(grade) for own in qrels[split].values()) for split in SPLITS]
        assert f"| grade {grade} | {' | '.join(map(str, counts))} |" in SHEET
    assert f"| queries | {' | '.join(str(len(qrels[split])) for split in SPLITS)} |" in SHEET
    kinds = Counter(row["kind"] for row in queries.values())
    assert "{keywords} keywords, {question} questions, {other_words} in other".format(**kinds) in SHEET


def test_every_query_is_judged_on_the_twelve_passages_of_its_subject(corpus, queries, qrels):
    judged = {query: own for split in SPLITS for query, own in qrels[split].items()}
    assert judged.keys() == queries.keys()
    passages = defaultdict(set)
    for query, own in judged.items():
        assert len(own) == 12
        assert own.keys() <= corpus.keys()
        assert 1 <= list(own.values()).count(3) <= 2
        passages[queries[query]["topic"]] |= own.keys()
    assert {len(own) for own in passages.values()} == {12}


def test_no_subject_is_in_two_splits(queries, qrels):
    topics = [{queries[query]["topic"] for query in qrels[split]} for split in SPLITS]
    assert [len(own) for own in topics] == [24, 8, 16]
    assert len(set.union(*topics)) == 48


def test_passages_are_clean_and_of_40_to_90_words(corpus, queries):
    for text in [*corpus.values(), *(row["text"] for row in queries.values())]:
        assert text == " ".join(text.split())
        assert text.isprintable()
    assert all(40 <= len(text.split()) <= 90 for text in corpus.values())
    assert len({row["text"] for row in queries.values()}) == len(queries)


def test_word_search_leaves_room(corpus, queries, qrels):
    """BM25 (Robertson et al., 1994) with k1 = 1.2 and b = 0.75, written out."""
    bags = {key: Counter(re.findall(r"\w+", text.lower())) for key, text in corpus.items()}
    mean_length = sum(bag.total() for bag in bags.values()) / len(bags)
    frequency = Counter(word for bag in bags.values() for word in bag)

    def score(query, bag):
        found = 0.0
        for word in re.findall(r"\w+", query.lower()):
            rarity = math.log(1 + (len(bags) - frequency[word] + 0.5) / (frequency[word] + 0.5))
            found += rarity * bag[word] * 2.2 / (bag[word] + 1.2 * (0.25 + 0.75 * bag.total() / mean_length))
        return found

    values = defaultdict(list)
    for query, grades in qrels["test"].items():
        scores = [score(queries[query]["text"], bag) for bag in bags.values()]
        values[queries[query]["form"]].append(ndcg(scores, [grades.get(key, 0) for key in bags], 10))
    plain, awkward = (sum(values[form]) / len(values[form]) for form in ("plain", "awkward"))
    assert (plain + awkward) / 2 < 0.75
    assert f"of {(plain + awkward) / 2:.2f} on test: {plain:.2f} on the plain queries and {awkward:.2f} on" in SHEET
