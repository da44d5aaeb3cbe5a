"""The battery's items of scores: `predict` and `rank`, exported and saved models, files, ensembles, windows."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from battery_adapters import ask, fields, item, kit, sha_of, weights
from battery_inputs import classifier, collection, lists, nli, scorer, sts, tiny


@item("scores: predict and rank, torch")
def _() -> Any:
    model, texts = scorer(), sts("dev").texts
    documents = dict(list(collection().documents.items())[:30])
    found: dict[str, Any] = {"scores": model.predict(texts, threads=1), "one": model.predict(texts[0])}
    found["raw, budget"] = model.predict(texts, activation_fn="identity", token_budget=100, batch_size=5)
    found["threads"] = model.predict(texts, threads=2)
    found["tensor"] = model.predict(texts[:9], convert_to_tensor=True)
    found["classes"] = classifier().predict(nli("dev").texts[:99], apply_softmax=True)
    found["rank"] = model.rank("wind power", list(documents.values()), top_k=9)
    hits = model.rank_many(["wind power", "bread"], [documents, list(documents.values())], return_documents=True)
    keys = ("corpus_id", "score", "text")
    found["rank_many"] = [[{key: hit[key] for key in keys} for hit in own] for own in hits]
    cut = kit.CrossEncoder("tiny", seed=3, max_length=64, truncation="only_second", device="cpu")
    long = [(a, " ".join([b] * 4)) for a, b in texts[:99]]
    return found | {"cut": cut.predict(long, threads=1), "new head": weights(tiny(3))}


@item("scores: predict, minilm and its cosine")
def _() -> Any:
    texts = sts("dev").texts[:60]
    model = kit.CrossEncoder("minilm", num_labels=2, seed=1, device="cpu")
    return [model.predict(texts, threads=1), np.asarray(kit.dense_cosine(texts)), np.asarray(kit.word_overlap(texts))]


@item("scores: int8, exported and loaded")
def _() -> Any:
    return exported("int8")


@item("scores: ONNX, exported and loaded")
def _() -> Any:
    return exported("onnx")


def exported(backend: str) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        pairs = sts("dev").texts[:80]
        given = {"model": scorer(), "folder": Path(folder) / "out", "backend": backend, "pairs": pairs}
        report = ask(kit.export_model, given, allow_drift=True, repeats=1)
        model = kit.CrossEncoder(Path(folder) / "out", backend=backend)
        drift = {key: value for key, value in vars(report.drift).items() if isinstance(value, float)}
        return [model.predict(pairs, threads=1), model.predict(sts().texts[:80], activation_fn="identity"), drift]


@item("scores: a saved model's files and its scores when loaded")
def _() -> Any:
    with tempfile.TemporaryDirectory() as folder:
        classifier().save_pretrained(Path(folder) / "out")
        names = sorted(path.name for path in (Path(folder) / "out").iterdir())
        files = {name: sha_of(Path(folder) / "out" / name) for name in names if name != "README.md"}
        model = kit.CrossEncoder(Path(folder) / "out", device="cpu")
        return [names, files, model.predict(nli("dev").texts[:50]), list(model.label_names)]


@item("scores: a file of pairs, JSON Lines and shards")
def _() -> Any:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        rows = [{"id": n, "sentence1": a, "sentence2": b} for n, (a, b) in enumerate(sts("dev").texts)]
        (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        given = {"model": scorer(), "scorer": scorer(), "path": folder / "in.jsonl", "progress": False, "keep": ["id"]}
        ask(kit.score_file, given | {"output": folder / "out.jsonl", "folder": folder / "out.jsonl"})
        sizes = {"shards": True, "shard_rows": 50, "shard_size": 50}
        ask(kit.score_file, given | sizes | {"output": folder / "out", "folder": folder / "out"})
        columns = {name: np.asarray(own) for name, own in kit.read_scores(folder / "out").items()}
        shards = [path.name for path in sorted((folder / "out").glob("*.parquet"))]
        return [(folder / "out.jsonl").read_text(), columns, len(shards)]


@item("scores: cached on disk")
def _() -> Any:
    with tempfile.TemporaryDirectory() as folder:
        given = {"scorer": scorer(), "pairs": sts("dev").texts, "folder": folder}
        options: dict[str, Any] = {"shard_size": 100, "settings": {"activation_fn": "identity"}}
        first = ask(kit.cached_scores, given, **options)
        return [first, ask(kit.cached_scores, given, **options)]


@item("scores: ensembles")
def _() -> Any:
    own = lists()
    members = [scorer(), kit.word_overlap]
    found = [kit.ensemble(members)(own.texts), kit.ensemble(members, weights=[0.2, 0.8])(own.texts)]
    return [*found, kit.ensemble(members, "rank_mean", groups="left")(own.texts)]


@item("scores: windows of long documents, and what truncation cut")
def _() -> Any:
    pairs = list(zip(collection().queries.values(), collection().documents.values(), strict=False))
    found = [kit.chunked(kit.word_overlap, size=8, stride=4)(pairs)]
    found += [kit.chunked(scorer(), size=10, unit="tokens", aggregate="first")(pairs)]
    found += [kit.chunked(scorer(), size=10, aggregate="mean_top_k", k=2)(pairs)]
    short = kit.CrossEncoder("tiny", seed=3, max_length=24, device="cpu")
    report = kit.truncation_report(short, pairs)
    return [*found, fields(report, "max_length", "sizes", "lost", "num_cut", "tokens_lost")]
