"""The battery's items of data: reading and writing, first-stage search, reranking and mined negatives."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from battery_adapters import ask, item, kit, pairs_told, run_told
from battery_inputs import bm25, collection, dense, lists, nli, scorer, search_words, sts


@item("data: readers of the samples")
def _() -> Any:
    found: dict[str, Any] = {}
    for split in ("train", "dev", "test"):
        found[f"sts {split}"] = pairs_told(sts(split))
        found[f"nli {split}"] = pairs_told(nli(split))
        own = collection(split)
        found[f"ranking {split}"] = [own.documents, own.queries, own.qrels, own.fingerprint()]
    return found | {"fingerprints": [sts().fingerprint(), nli().fingerprint(), lists().fingerprint()]}


@item("data: a collection's runs and judgements as pairs")
def _() -> Any:
    own = collection()
    some = own.as_pairs(bm25(), depth=5)
    return [pairs_told(lists()), pairs_told(some), pairs_told(own.judged_pairs())]


@item("data: runs and qrels written and read")
def _() -> Any:
    with tempfile.TemporaryDirectory() as folder:
        run, qrels = Path(folder) / "run.trec", Path(folder) / "qrels.trec"
        ask(kit.write_run, {"path": run, "run": bm25()})
        ask(kit.write_qrels, {"path": qrels, "qrels": collection().qrels})
        read = [run_told(kit.read_run(run)), run_told(kit.read_qrels(qrels))]
        return [run.read_text(), qrels.read_text(), *read]


@item("search: BM25, dense and overlap runs, fused")
def _() -> Any:
    own = collection()
    exact = kit.bm25_index(own.documents, k1=1.2, b=0.5, method="robertson")(own.queries, 20)
    found = {"bm25": bm25(), "settings": exact, "dense": dense()(own.queries, 20)}
    found["fused"] = kit.reciprocal_rank_fusion([bm25(), dense()(own.queries, 20)], weights=[1.0, 2.0], depth=10)
    return {name: run_told(run) for name, run in found.items()}


@item("search: rerank")
def _() -> Any:
    found = []
    for own in (scorer(), kit.word_overlap):
        for more in ({"depth": 10}, {"depth": 5, "keep_rest": False}, {"depth": 0}):
            found.append(run_told(ask(kit.rerank, search_words(scorer=own, model=own, **more))))
    return found


@item("search: retrieve_and_rerank")
def _() -> Any:
    first = kit.bm25_index(collection().documents)
    given = search_words(first_stage=first, scorer=scorer(), depth=10, candidates=25, k=25)
    search = ask(kit.retrieve_and_rerank, given)
    return [search("wind power", top_k=5), search(list(collection().queries.values())[:3], top_k=4)]


MINING: dict[str, dict[str, Any]] = {
    "plain": {},
    "lists": {"output": "lists", "num_negatives": 6, "range_min": 2, "range_max": 40},
    "pairs": {"output": "pairs", "sampling": "random", "seed": 4},
    "margins": {"absolute_margin": 1.0, "drop_short": True, "num_negatives": 2},
    "relative": {"relative_margin": 0.1, "max_score": 9.0, "min_score": 1.0},
    "random": {"first_stage": "random", "seed": 2},
    "grades": {"positive_grade": 2, "relevant_from": 2},
}


@item("mining: hard negatives")
def _() -> Any:
    found: dict[str, Any] = {}
    for name, options in MINING.items():
        found[name] = mined_told(ask(kit.mine_hard_negatives, search_words(run=None) | options))
    found["reranked"] = mined_told(ask(kit.mine_hard_negatives, search_words(cross_encoder=scorer())))
    found["dense"] = mined_told(ask(kit.mine_hard_negatives, search_words(run=None, first_stage=dense())))
    return found


def mined_told(mined: Any) -> Any:
    runs = [run_told(run) for run in (mined.negatives, mined.candidates, mined.positives)]
    return {"pairs": pairs_told(mined.pairs), "runs": runs}


@item("mining: hidden positives and false negatives")
def _() -> Any:
    kept, hidden = kit.hide_positives(collection().qrels, 1, seed=3)
    mined = ask(kit.mine_hard_negatives, search_words(run=None, qrels=kept, collection=with_qrels(kept)))
    rate = kit.false_negative_rate(mined.negatives, collection().qrels, hidden=hidden)
    return [kept, hidden, list(rate if isinstance(rate, tuple) else vars(rate).values())]


def with_qrels(qrels: Any) -> Any:
    own = collection()
    return kit.Collection(queries=own.queries, documents=own.documents, qrels=qrels)


@item("distillation: sampled pairs")
def _() -> Any:
    texts = sts("dev").left[:80]
    return [pairs_told(kit.sample_pairs(texts, how=how, k=2, seed=1)) for how in ("bm25", "random")]
