"""The questions of `same_as_before.py`, asked of one checkout: `battery.py CHECKOUT ANSWERS [ONLY]`.

Each item is a function that returns numbers. Names are found wherever the checkout defines them, and arguments are
handed over by name, so that files and orders may change: `ask(function, given)` passes what the function has a
parameter for. Only what bears another name on both sides stands in a table here.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

Item = Callable[[], Any]
ITEMS: dict[str, tuple[Item, bool]] = {}
MANY = 40  # entries above which a mapping is told by its hash


class Kit:
    """The package of one checkout: `kit.name` finds a name at the root, else in the file that defines it."""

    def __init__(self, checkout: Path):
        import crossenc_kit

        self.root = crossenc_kit
        package = checkout / "crossenc_kit"
        assert Path(crossenc_kit.__file__).parent == package, f"{crossenc_kit.__file__} is not of {checkout}"
        self.files: dict[str, list[str]] = {}
        for path in sorted(package.rglob("*.py")):
            module = ".".join(path.relative_to(checkout).with_suffix("").parts)
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                for name in _defined(node):
                    self.files.setdefault(name, []).append(module)

    def __getattr__(self, name: str) -> Any:
        from importlib import import_module

        if name in self.root.__all__:
            return getattr(self.root, name)
        if name not in self.files:
            raise LookupError(f"no file of the package defines {name}")
        return getattr(import_module(self.files[name][0]), name)

    def first(self, *names: str) -> Any:
        """The first of several names that there is."""
        return getattr(self, next(name for name in names if name in self.files))


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


kit: Any = None  # set by `main`


def item(name: str, near: bool = False) -> Callable[[Item], Item]:
    """Register an item; `near` for numbers that a library computes now."""

    def register(function: Item) -> Item:
        ITEMS[name] = function, near
        return function

    return register


def ask(function: Any, given: Mapping[str, Any], **options: Any) -> Any:
    """Call a function with those of `given` that it has a parameter for, and with all `options`."""
    return function(
        **{name: given[name] for name in inspect.signature(function).parameters if name in given}, **options
    )


def bits(value: Any, near: bool = False) -> Any:
    """A value as JSON that tells every bit: floats as hex, arrays by their sha256; `near` keeps plain floats."""
    if isinstance(value, torch.Tensor):
        value = value.detach().numpy()
    if isinstance(value, np.ndarray | np.generic) and near:
        return bits(value.tolist(), near)
    if isinstance(value, np.ndarray) and value.dtype.kind in "OU":
        return bits(value.tolist())
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape} {hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()[:20]}"
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool | None | str):
        return value
    if isinstance(value, int):
        return value if near else str(value)
    if isinstance(value, float):
        return value if near else value.hex()
    if isinstance(value, Mapping):
        told = {str(key): bits(own, near) for key, own in value.items()}
        return told if near or len(told) <= MANY else _digest(list(told.items()))
    if isinstance(value, list | tuple | set | range):
        told = [bits(own, near) for own in (sorted(value) if isinstance(value, set) else value)]
        return told if near or len(told) <= MANY else _digest(told)
    raise TypeError(f"an answer of type {type(value).__name__}")


def _digest(told: Any) -> str:
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:20]


def metrics(report: Any) -> dict[str, Any]:
    """A report's metrics: a method before, an attribute now."""
    found = report.metrics
    return dict(found() if callable(found) else found)


def fields(report: Any, *names: str) -> dict[str, Any]:
    """Some fields of a report."""
    return {name: getattr(report, name) for name in names}


def weights(model: Any) -> str:
    """sha256 of names and bits of all weights."""
    found = hashlib.sha256()
    for name, tensor in sorted(model.model.state_dict().items()):
        found.update(name.encode() + str(tensor.dtype).encode() + tensor.detach().contiguous().numpy().tobytes())
    return found.hexdigest()[:20]


def rows_of(history: Any) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history]


def pairs_told(pairs: Any) -> dict[str, Any]:
    own = {"left": list(pairs.left), "right": list(pairs.right), "labels": pairs.labels, "offsets": pairs.offsets}
    return {name: value for name, value in own.items() if value is not None}


def run_told(run: Any) -> list[Any]:
    """A run in its order: candidates whose order changed are a difference too."""
    return [[query, list(found.items())] for query, found in run.items()]


# --- what the items work on -----------------------------------------------------------------------


def tiny(num_labels: int = 1, **options: Any) -> Any:
    return kit.CrossEncoder("tiny", num_labels=num_labels, seed=3, device="cpu", **options)


@cache
def sts(split: str = "train") -> Any:
    return kit.read_sts(split=split)


@cache
def nli(split: str = "train") -> Any:
    return kit.read_nli(split=split)


@cache
def collection(split: str = "dev") -> Any:
    return kit.read_ranking(split=split)


@cache
def bm25(split: str = "dev", k: int = 30) -> dict[str, dict[str, float]]:
    own = collection(split)
    return kit.bm25_index(own.documents)(own.queries, k)


@cache
def dense() -> Any:
    return kit.dense_index(collection().documents)


@cache
def lists(depth: int = 5) -> Any:
    """Lists of graded candidates whose texts are cut to 12 words, which keeps the battery short."""
    own = collection("train")
    found = own.as_pairs(kit.bm25_index(own.documents)(own.queries, depth), depth=depth, with_relevant=True)
    return replace(found, right=[" ".join(text.split()[:12]) for text in found.right])


def shares() -> Any:
    """The same lists with grades 0 to 3 as labels from 0 to 1."""
    return replace(lists(), labels=lists().labels / 3)


def search_words(**more: Any) -> dict[str, Any]:
    """Everything that a function of a collection may ask for, under the names that it had and has."""
    own = collection()
    given = {"collection": own, "queries": own.queries, "documents": own.documents, "qrels": own.qrels}
    return given | {"run": bm25()} | more


def train(data: Any, loss: Any = "bce", model: Any = None, evaluator: Any = None, **settings: Any) -> Any:
    """Train 20 steps; returns the model and its answer: weights and every row of the history."""
    model = model or tiny()
    config = kit.TrainingConfig(**{"batch_size": 8, "max_steps": 20, "epochs": 9, "learning_rate": 1e-3} | settings)
    result = kit.train(model, data, loss, config, evaluator)
    best = [result.best_step, result.best_score]
    return model, {"weights": weights(model), "history": rows_of(result.history), "best": best}


@cache
def scorer() -> Any:
    """A tiny model whose scores differ among pairs."""
    return train(lists(), "group_cross_entropy", batch_size=4)[0]


@cache
def classifier() -> Any:
    return train(nli(), "cross_entropy", tiny(3, label_names=nli().label_names))[0]


def teacher_scores(pairs: Any) -> np.ndarray:
    return 4 * np.asarray(kit.word_overlap(pairs.texts), dtype=np.float32) - 1


# --- data -----------------------------------------------------------------------------------------


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


# --- training -------------------------------------------------------------------------------------


@item("train: STS")
def _() -> Any:
    return train(sts())[1]


@item("train: STS, token budget, accumulation, layer decay, cosine")
def _() -> Any:
    more: dict[str, Any] = {"layer_decay": 0.8, "head_factor": 3.0, "scheduler": "cosine", "dropout": 0.2}
    return train(sts(), "sigmoid_mse", token_budget=150, accumulation=3, batch_size=4, **more)[1]


@item("train: STS, evaluator, best weights, patience", near=False)
def _() -> Any:
    def wave(model: Any) -> dict[str, float]:
        score = float(np.mean(model.predict(sts("dev").texts[:6], threads=1)))
        return {"wave": float(np.sin(1e4 * score)), "mean": score}

    return train(sts(), evaluator=wave, evaluation_steps=2, patience=4, evaluate_first=True)[1]


@item("train: STS, mse, bf16, fixed plan of batches")
def _() -> Any:
    model = tiny(activation_fn="identity")
    plan = [np.arange(8 * step, 8 * step + 8) for step in range(20)]
    config = kit.TrainingConfig(batch_size=8, learning_rate=1e-3, precision="bf16")
    result = kit.train(model, sts(), "mse", config, batches=lambda epoch: plan)
    return [weights(model), rows_of(result.history)]


@item("train: STS, minilm")
def _() -> Any:
    model = kit.CrossEncoder("minilm", num_labels=1, seed=0, device="cpu")
    return train(sts(), model=model, learning_rate=5e-5)[1]


@item("train: NLI, balanced weights, smoothing")
def _() -> Any:
    model = tiny(3, label_names=nli().label_names)
    loss = kit.loss_with("cross_entropy", class_weights="balanced", label_smoothing=0.1)
    return train(nli(), loss, model, accumulation=2, token_budget=200)[1]


@item("train: NLI, cross-entropy")
def _() -> Any:
    return train(nli(), "cross_entropy", tiny(3, label_names=nli().label_names))[1]


for _name, _options in {
    "group_cross_entropy": {},
    "listnet": {},
    "listmle": {},
    "position_aware_listmle": {},
    "approx_ndcg": {"temperature": 0.5},
    "lambda_loss": {"k": 5},
    "ranknet": {"sigma": 2.0, "mean_over": "pairs"},
}.items():

    @item(f"train: lists, {_name} {_options or ''}")
    def _(name: str = _name, options: dict[str, Any] = _options) -> Any:
        return train(lists(), kit.loss_with(name, **options), batch_size=2, token_budget=200)[1]


@item("train: lists, BCE on each candidate")
def _() -> Any:
    return train(shares(), kit.loss_with("bce", positive_weight="balanced"), batch_size=2)[1]


@item("train: lists, negatives from the batch")
def _() -> Any:
    return train(lists(), kit.loss_with("group_cross_entropy", in_batch=2), batch_size=2, accumulation=2)[1]


@item("train: lists, all negatives from the batch, cached scores")
def _() -> Any:
    return train(lists(3), kit.loss_with("group_cross_entropy", in_batch="all"), batch_size=2, cached_pairs=5)[1]


@item("train: negatives drawn anew each epoch")
def _() -> Any:
    own = collection("train")
    some = list(own.queries)[:24]
    queries = {name: own.queries[name] for name in some}
    documents = {name: " ".join(text.split()[:12]) for name, text in own.documents.items()}
    own = kit.Collection(queries=queries, documents=documents, qrels={name: own.qrels[name] for name in some})
    given = {"collection": own, "queries": own.queries, "documents": own.documents, "qrels": own.qrels}
    mined = ask(kit.mine_hard_negatives, given, num_negatives=3, sampling="random", range_max=20)
    data = kit.negatives_by_epoch(mined)
    return [pairs_told(data(1)), train(data, "multiple_negatives", batch_size=len(data(0)) // 8, max_steps=12)[1]]


@item("train: a teacher's scores and gold, pairs")
def _() -> Any:
    data = kit.with_teacher_scores(sts(), teacher_scores(sts()), gold=True)
    return train(data, kit.distillation_loss("mse", gold="bce", alpha=0.3))[1]


@item("train: a teacher's scores and gold, classes")
def _() -> Any:
    pairs = nli().select(range(300))
    data = kit.with_teacher_scores(pairs, np.random.default_rng(0).normal(size=(300, 3)), gold=True)
    return train(data, kit.distillation_loss("kl_divergence", gold="cross_entropy", temperature=2.0), tiny(3))[1]


@item("train: a teacher's scores and gold, lists")
def _() -> Any:
    data = kit.with_teacher_scores(shares(), teacher_scores(lists()), gold=True)
    lone = kit.with_teacher_scores(lists(), teacher_scores(lists()))
    mixed = [kit.distillation_loss("kl_divergence", gold="group_cross_entropy", temperature=2.0)]
    mixed += [kit.distillation_loss("margin_mse", gold="bce", alpha=0.6)]
    found = [train(data, loss, batch_size=2, max_steps=12)[1] for loss in mixed]
    return found + [
        train(lone, loss, batch_size=2, max_steps=12)[1] for loss in ("margin_mse", "kl_divergence", "adr_mse")
    ]


@item("train: fit, the older call")
def _() -> Any:
    from torch.utils.data import DataLoader

    examples = [
        kit.InputExample(texts=list(texts), label=float(y)) for texts, y in zip(sts().texts, sts().labels, strict=True)
    ]
    torch.manual_seed(5)
    model = tiny()
    loader: Any = DataLoader(examples[:160], shuffle=True, batch_size=8)
    model.fit(loader, epochs=1, warmup_steps=4, optimizer_params={"lr": 1e-3}, show_progress_bar=False)
    return weights(model)


@item("train: LoRA adapter, merged")
def _() -> Any:
    from peft import LoraConfig, get_peft_model

    model = tiny()
    torch.manual_seed(2)
    settings = LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query", "value"], modules_to_save=["classifier"])
    model.model = get_peft_model(model.model, settings)
    trained = train(sts(), model=model)[1]
    scores = model.predict(sts("dev").texts[:50], threads=1)
    kit.merge_adapters(model)
    return [trained, scores, weights(model), model.predict(sts("dev").texts[:50], threads=1)]


@item("train: killed at a checkpoint and resumed")
def _() -> Any:
    whole = train(sts(), token_budget=150)[1]
    with tempfile.TemporaryDirectory() as folder:
        settings = {"batch_size": 8, "max_steps": 20, "epochs": 9, "learning_rate": 1e-3, "token_budget": 150}
        config = kit.TrainingConfig(**settings, save_steps=5, output_dir=folder, resume=True)
        process = os.fork()
        if process == 0:
            kit.train(tiny(), sts(), "bce", config, on_row=lambda row: row["step"] == 12 and os.kill(os.getpid(), 9))
            os._exit(1)  # not reached: killed after step 12, with a checkpoint of step 10
        os.waitpid(process, 0)
        model, killed = tiny(), sorted(path.name for path in (Path(folder) / "checkpoints").iterdir())
        result = kit.train(model, sts(), "bce", config)
        files = {name: sha_of(Path(folder) / name) for name in ("last/model.safetensors", "last/config.json")}
        resumed = {"weights": weights(model), "history": rows_of(result.history)}
    assert resumed["weights"] == whole["weights"], "a resumed run differs from an uninterrupted one"
    return [whole, resumed, killed, files]


@item("train: a student cut from a model, its layers matched")
def _() -> Any:
    teacher = scorer()
    student = kit.make_student(teacher, 1)
    cut = weights(student)
    given = {"student": student, "teacher": teacher, "pairs": sts().select(range(64))}
    config = kit.TrainingConfig(batch_size=8, learning_rate=1e-3, token_budget=300)
    found = ask(kit.match_layers, given, config=config)
    return [cut, weights(student), rows_of(getattr(found, "history", found))]


# --- losses ---------------------------------------------------------------------------------------

LIST_OPTIONS: dict[str, list[dict[str, Any]]] = {
    "multiple_negatives": [{}, {"scale": 3.0, "sigmoid": False}],
    "kl_divergence": [{}, {"temperature": 2.5}],
    "ranknet": [{}, {"sigma": 2.0, "mean_over": "pairs"}],
    "lambda_loss": [{"weighting": own} for own in ("ndcg_loss1", "ndcg_loss2", "lambda_rank", "ndcg_loss2pp")]
    + [{"k": 3, "sigma": 2.0, "mu": 5.0}, {"mean_over": "pairs"}],
    "margin_mse": [{}, {"against_first": True}],
    "adr_mse": [{}, {"alpha": 2.0}],
    "approx_ndcg": [{}, {"temperature": 0.3}],
}
PAIR_OPTIONS: dict[str, list[dict[str, Any]]] = {
    "bce": [{}, {"positive_weight": 2.5}],
    "mse": [{}],
    "sigmoid_mse": [{}],
    "cross_entropy": [{}, {"class_weights": [1.0, 2.0, 0.5], "label_smoothing": 0.1}],
    "class_kl_divergence": [{}, {"temperature": 3.0}],
}


def loss_told(name: str, options: dict[str, Any], scores: Any, *rest: Any) -> list[Any]:
    """Value and gradient of a loss on fixed tensors."""
    loss = kit.loss_with(name, **options)
    scores = scores.clone().requires_grad_()
    value = loss.function(scores, *rest, **loss.options)
    value.backward()
    return [value, scores.grad]


@item("losses: every loss of lists, value and gradient")
def _() -> Any:
    draw = torch.Generator().manual_seed(7)
    scores = 3 * torch.randn(5, 7, generator=draw)
    sizes = torch.tensor([7, 2, 5, 1, 6])
    mask = torch.arange(7)[None, :] < sizes[:, None]
    grades = torch.randint(0, 4, (5, 7), generator=draw).float() * mask
    one = torch.zeros(5, 7)
    one[torch.arange(5), sizes - 1] = 1.0
    teacher = torch.randn(5, 7, generator=draw)
    found = {}
    for name in sorted(kit.RANKING_LOSSES):
        labels = {"multiple_negatives": one, "kl_divergence": teacher, "margin_mse": teacher}.get(name, grades)
        for options in LIST_OPTIONS.get(name, [{}]):
            found[f"{name} {options}"] = loss_told(name, options, scores, labels, mask)
    return found


@item("losses: every loss of pairs, value and gradient")
def _() -> Any:
    draw = torch.Generator().manual_seed(8)
    flat, wide = 3 * torch.randn(9, generator=draw), 3 * torch.randn(9, 3, generator=draw)
    shares, classes = torch.rand(9, generator=draw), torch.arange(9) % 3
    labels = {"cross_entropy": classes, "class_kl_divergence": torch.randn(9, 3, generator=draw)}
    found = {}
    for name, every in PAIR_OPTIONS.items():
        for options in every:
            scores = wide if name in labels else flat
            found[f"{name} {options}"] = loss_told(name, options, scores, labels.get(name, shares))
    found["soft classes"] = loss_told("cross_entropy", {}, wide, torch.softmax(wide.flip(0), 1))
    return found


@item("losses: mixed with gold, value and gradient")
def _() -> Any:
    draw = torch.Generator().manual_seed(9)
    scores, both = torch.randn(4, 5, generator=draw), torch.rand(4, 5, 2, generator=draw)
    mask = torch.arange(5)[None, :] < torch.tensor([5, 2, 3, 4])[:, None]
    found = []
    for loss in (
        kit.distillation_loss("margin_mse", gold="listnet", alpha=0.3),
        kit.distillation_loss("kl_divergence", gold="bce", temperature=2.0),
    ):
        own = scores.clone().requires_grad_()
        value = loss.apply(own, both, mask)
        value.backward()
        found += [value, own.grad]
    return found


@item("losses: of hidden states and attention, value and gradient")
def _() -> Any:
    draw = torch.Generator().manual_seed(10)
    mask = torch.arange(6)[None, :] < torch.tensor([6, 3, 4])[:, None]
    hidden, attention = torch.randn(2, 3, 6, 8, generator=draw), torch.rand(2, 3, 2, 6, 6, generator=draw)
    attention = torch.softmax(attention.masked_fill(~mask[None, :, None, None, :], -1e9), -1)
    found = []
    for name, states in (("hidden_mse", hidden), ("attention_mse", attention), ("attention_kl", attention)):
        own = states[0].clone().requires_grad_()
        value = getattr(kit, name)(own, states[1], mask)
        value.backward()
        found += [value, own.grad]
    return found


# --- scores ---------------------------------------------------------------------------------------


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


def sha_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:20]


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


# --- search ---------------------------------------------------------------------------------------


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


# --- reports --------------------------------------------------------------------------------------


@item("evaluate: correlation", near=True)
def _() -> Any:
    own = sts("dev")
    report = kit.evaluate_correlation(scorer(), own, baselines={"overlap": kit.word_overlap}, resamples=200)
    told = [metrics(report), fields(report, "scores", "intervals", "baselines", "margins")]
    tags = kit.by_tag(kit.pearson, report.scores, report.labels, own.tags["domain"])
    return [*told, kit.correlation_evaluator(own)(scorer()), tags]


@item("evaluate: classification", near=True)
def _() -> Any:
    own = nli("dev").select(range(300))
    other = tiny(3, label_names=own.label_names)
    report = kit.evaluate_classification(classifier(), own, baselines={"new": other}, resamples=200)
    names = ("scores", "probabilities", "predicted", "accuracy", "macro_f1", "ece", "log_loss", "confusion")
    told = [metrics(report), fields(report, *names, "intervals", "baselines", "margins")]
    told += [[getattr(report.classes, name) for name in ("precision", "recall", "f1", "support")]]
    theirs = kit.evaluate_classification(other, own, resamples=0)
    compared = kit.compare_classifiers(report, theirs, resamples=500)
    told += [kit.classification_evaluator(own)(classifier())]
    return [*told, fields(compared, "difference", "interval", "p")]


@item("evaluate: two classes", near=True)
def _() -> Any:
    own = sts("dev")
    data = replace(own, labels=(own.labels > 0.5).astype(np.int64), label_names=("no", "yes"))
    report = kit.evaluate_classification(scorer(), data, threshold=0.4, resamples=50)
    return [metrics(report), fields(report, "average_precision", "threshold", "intervals")]


@item("evaluate: ranking")
def _() -> Any:
    found: dict[str, Any] = {}
    ranked = ask(kit.rerank, search_words(scorer=scorer(), depth=10))
    for name, options in {
        "plain": {},
        "graded": {"relevant_from": 2, "gains": "exponential", "k": 5, "ties": "order_free"},
        "compared": {"first_stage": bm25(), "baselines": {"dense": dense()(collection().queries, 30)}},
    }.items():
        report = ask(kit.evaluate_ranking, search_words(run=ranked, resamples=100) | options)
        more = ("values", "ceiling", "intervals", "baselines", "candidate_recall")
        found[name] = [metrics(report), fields(report, *more)]
    two = {"ours": ranked, "theirs": bm25(), "run_a": ranked, "run_b": bm25()}
    compared = ask(kit.compare_runs, search_words(resamples=300) | two)
    return found | {"compare_runs": fields(compared, "difference", "interval", "p", "wins", "ties", "losses")}


@item("evaluate: metrics of one query")
def _() -> Any:
    draw = np.random.default_rng(3)
    found = []
    for size in (1, 4, 9, 30):
        scores, grades = draw.integers(0, 6, size).astype(float), draw.integers(0, 4, size)
        found += [kit.ndcg(scores, grades, k, gains=own) for k in (None, 3) for own in ("linear", "exponential")]
        found += [kit.reciprocal_rank(scores, grades, 5), kit.average_precision_of(scores, grades)]
        found += [getattr(kit, name)(scores, grades, 3) for name in ("success_at", "precision_at", "recall_at")]
    return found


@item("evaluate: a run's metrics for each query")
def _() -> Any:
    names = ["ndcg@10", "mrr@10", "map", "recall@20", "success@5"]
    given = {"run": bm25(), "qrels": collection().qrels, "metrics": names}
    return {name: np.asarray(values) for name, values in ask(kit.first("measure_run", "query_values"), given).items()}


@item("evaluate: reranking, collections and depths")
def _() -> Any:
    own = collection()
    given = search_words(data=own, run=bm25(), depth=10)
    found: dict[str, Any] = {"evaluator": ask(kit.ranking_evaluator, given)(scorer())}
    found["evaluator, grades"] = ask(kit.ranking_evaluator, given | {"relevant_from": 2, "k": 5})(scorer())
    of_lists = ask(kit.ranking_evaluator, {"data": lists(), "collection": lists(), "candidates_in_order": True})
    found["evaluator, lists"] = of_lists(scorer())
    report = ask(kit.evaluate_collections, {"scorer": scorer(), "collections": {"one": (own, bm25())}}, resamples=50)
    found["collections"] = metrics(report)
    curve = ask(kit.depth_curve, search_words(scorer=scorer(), depths=(0, 3, 10), k=10), resamples=50)
    points = getattr(curve, "points", curve)
    found["depths"] = [[point.depth, point.pairs, metrics(point), point.intervals, point.ceiling] for point in points]
    return found


@item("evaluate: sentence-transformers' evaluators of reranking")
def _() -> Any:
    own, run = collection(), bm25()
    samples, documents = [], []
    for query, text in own.queries.items():
        known = set(own.relevant(query))
        positive = [own.documents[name] for name in own.qrels[query] if name in known]
        found = list(run.get(query, {}))[:12]
        samples.append({"query": text, "positive": positive})
        samples[-1]["negative"] = [own.documents[name] for name in found if name not in known]
        documents.append({"query": text, "positive": positive, "documents": [own.documents[name] for name in found]})
    answers = [kit.CERerankingEvaluator(samples, at_k=5, write_csv=False)(scorer())]
    for always in (False, True):
        options: dict[str, Any] = {"at_k": 5, "always_rerank_positives": always, "write_csv": False}
        answers += [kit.CrossEncoderRerankingEvaluator(own, **options)(scorer()) for own in (samples, documents)]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "NanoMSMARCO").symlink_to(Path(os.environ["CROSSENC_KIT_DATA"]) / "ranking")
        for always in (False, True):
            options = {"folder": folder, "split": "dev", "rerank_k": 10, "write_csv": False}
            nano = kit.CrossEncoderNanoBEIREvaluator(always_rerank_positives=always, **options)
            answers.append(nano(scorer()))
    return answers


@item("evaluate: sentence-transformers' evaluators of pairs", near=True)
def _() -> Any:
    own, classes = sts("dev"), nli("dev").select(range(200))
    hard = (own.labels > 0.5).astype(int).tolist()
    found = [kit.CEBinaryAccuracyEvaluator(own.texts, hard, threshold=0.4, write_csv=False)(scorer())]
    found += [kit.CEBinaryClassificationEvaluator(own.texts, hard, write_csv=False)(scorer())]
    found += [kit.CECorrelationEvaluator(own.texts, own.labels.tolist(), write_csv=False)(scorer())]
    for name in ("CEF1Evaluator", "CESoftmaxAccuracyEvaluator", "CrossEncoderClassificationEvaluator"):
        found += [getattr(kit, name)(classes.texts, classes.labels.tolist(), write_csv=False)(classifier())]
    found += [kit.CrossEncoderClassificationEvaluator(own.texts, hard, write_csv=False)(scorer())]
    return [*found, kit.CrossEncoderCorrelationEvaluator(own.texts, own.labels.tolist(), write_csv=False)(scorer())]


@item("evaluate: statistics", near=True)
def _() -> Any:
    draw = np.random.default_rng(4)
    ours, theirs, gold = draw.normal(size=60).round(1), draw.normal(size=60), draw.normal(size=60)
    found: list[Any] = [kit.pearson(ours, gold), kit.spearman(ours, gold)]
    found += [kit.bootstrap_interval(kit.spearman, ours, gold, resamples=100)]
    found += [kit.bootstrap_difference(kit.pearson, ours, theirs, gold, resamples=100)]
    found += [kit.randomisation_test(ours, theirs, resamples=500)]
    found += [list(kit.mcnemar(ours > 0, theirs > 0))]
    return [*found, list(kit.best_threshold(ours, (gold > 0).astype(int), "f1"))]


@item("evaluate: bootstrap and randomisation, to the bit")
def _() -> Any:
    draw = np.random.default_rng(6)
    ours, theirs = draw.normal(size=60), draw.normal(size=60)
    return [kit.bootstrap_interval(np.mean, ours, resamples=300), kit.randomisation_test(ours, theirs, resamples=900)]


@item("evaluate: calibration", near=True)
def _() -> Any:
    draw = np.random.default_rng(5)
    raw, labels = 3 * draw.normal(size=(90, 3)), draw.integers(0, 3, 90)
    shares = np.exp(raw) / np.exp(raw).sum(1, keepdims=True)
    curve = kit.reliability_curve(shares, labels)
    found = [curve.confidence, curve.frequency, curve.count, kit.expected_calibration_error(shares, labels)]
    found += [kit.fit_temperature(raw, labels), kit.fit_temperature(raw[:, 0], (labels > 0).astype(int))]
    return found


@item("evaluate: a calibrated model's temperature and scores")
def _() -> Any:
    model = train(nli(), "cross_entropy", tiny(3, label_names=nli().label_names))[0]
    value = kit.calibrate(model, nli("dev").select(range(200)))
    return [float(np.float32(getattr(value, "temperature", value))), model.predict(nli("dev").texts[:30]).round(5)]


@item("evaluate: probes and slices of errors")
def _() -> Any:
    found = []
    hard = replace(sts("dev"), labels=(sts("dev").labels > 0.5).astype(np.int64))
    for own, data in ((scorer(), hard), (classifier(), nli("dev").select(range(150)))):
        report = kit.probe(own, data, seed=1)
        rows = [fields(row, "name", "accuracy", "mean", "change", "absolute_change", "flipped") for row in report.rows]
        found.append([rows, report.scores])
        evaluated = kit.evaluate_classification(own, data, resamples=0)
        slices = kit.error_slices(evaluated, data, resamples=50)
        slices = getattr(slices, "slices", slices)
        found.append([fields(own, "by", "name", "count", "value", "interval") for own in slices])
    return found


@item("distillation: sampled pairs")
def _() -> Any:
    texts = sts("dev").left[:80]
    return [pairs_told(kit.sample_pairs(texts, how=how, k=2, seed=1)) for how in ("bm25", "random")]


# --- asking ---------------------------------------------------------------------------------------


def main(checkout: str, answers: str, only: str = "") -> None:
    global kit
    torch.set_num_threads(1)
    kit = Kit(Path(checkout))
    with open(answers, "w", encoding="utf-8") as file:
        for name, (function, near) in ITEMS.items():
            if only not in name:
                continue
            began = time.perf_counter()
            try:
                answer = bits(function(), near)
            except Exception as error:  # told as an answer: the other items are asked all the same
                answer = f"{type(error).__name__}: {error} (in {Path(checkout).name})"
            seconds = time.perf_counter() - began
            row = {"item": name, "near": near, "seconds": seconds, "answer": answer}
            file.write(json.dumps(row) + "\n")
            file.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
