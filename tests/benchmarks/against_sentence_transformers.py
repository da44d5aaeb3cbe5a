"""crossenc_kit beside sentence-transformers: the same weights and work on the same machine, in turns.

Speed of `predict`, `rank` and training, peak memory, and import time. Scores and losses must agree, or the
script fails. Run it on a machine that does nothing else:

    python tests/benchmarks/against_sentence_transformers.py --data-dir DATA --json result.json
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from imports import compare_imports
from measure import Goal, check_equal, check_precise, in_own_process, table
from workloads import BATCH_SIZE, Work, load_work

from crossenc_kit.inference.timing import MEBIBYTE, interleave, peak_memory

SIDES = ("ours", "theirs")
PRECISIONS = ("fp32", "bf16")
PACKAGES = {"ours": "crossenc_kit", "theirs": "sentence_transformers"}
LEARNING_RATE = 5e-5
COMPARED_STEPS = 4  # training steps whose losses must agree
TOLERANCE = 1e-4  # of scores and losses in fp32
TARGETS = {"predict": (1.75, 2.0), "rank": (2.2, 2.5), "train": (2.6, 3.0)}  # gains on a CPU: wanted, hoped for
TARGETS["rank_many"] = TARGETS["rank"]


def main() -> None:
    settings = parse_arguments()
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # the bars of loading weights, here and in the children
    work = load_work(settings.data_dir, settings.pairs, settings.queries, settings.candidates, settings.steps)
    record = describe_machine(settings, work)
    comparisons: list[Goal] = []
    with tempfile.TemporaryDirectory() as folder:
        make_weights(settings.model, folder, work.pairs)
        for part in settings.only:
            print(f"measuring {part} ...", file=sys.stderr)
            comparisons += PARTS[part](folder, work, settings)
    print(table(comparisons))
    print("Medians (least to most); gain: ratio of the medians (least to most of the neighbouring runs).")
    if settings.json:
        from crossenc_kit.files import write_json

        record["comparisons"] = [comparison.to_dict() for comparison in comparisons]
        print(f"written to {write_json(settings.json, record)}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-dir", default=os.environ.get("CROSSENC_KIT_DATA"), help="with stsb, rerank_msmarco")
    parser.add_argument("--model", default="minilm", help="a folder, a hub name, minilm or tiny")
    parser.add_argument("--repeats", type=int, default=5, help="counted runs of each side")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="the parts to run")
    parser.add_argument("--json", type=Path, help="write everything measured to this file")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, help="default: fp32, on cuda also bf16")
    parser.add_argument("--peer-batch-size", type=int, help="pairs in a batch of theirs (default: their default)")
    parser.add_argument("--pairs", type=int, default=1500, help="pairs to score")
    parser.add_argument("--queries", type=int, default=4, help="queries to rank passages for")
    parser.add_argument("--candidates", type=int, default=100, help="passages of each query")
    parser.add_argument("--steps", type=int, default=20, help=f"training steps of {BATCH_SIZE} pairs in a run")
    settings = parser.parse_args()
    on_gpu = settings.device.startswith("cuda")
    settings.precision = settings.precision or list(PRECISIONS if on_gpu else PRECISIONS[:1])
    return settings


def describe_machine(settings: argparse.Namespace, work: Work) -> dict[str, Any]:
    """What a figure depends on, printed and as a record."""
    import sentence_transformers
    import torch  # noqa: F401  (before `provenance`, which describes the device through it)

    from crossenc_kit.history import provenance
    from crossenc_kit.models.products import has_faster_product

    load = os.getloadavg()[0]
    record = provenance(settings.device, load_average=load, work=work.describe(), settings=vars(settings))
    for own in ("data_dir", "json"):
        record["settings"].pop(own)  # a path of this machine
    for name in ("model", "student"):
        if record["settings"].get(name):
            record["settings"][name] = Path(record["settings"][name]).name
    record["versions"]["sentence_transformers"] = sentence_transformers.__version__
    record["product"] = "oneDNN's" if has_faster_product() else "torch's own"
    print(f"{record['device']} ({record['platform']}, {os.cpu_count()} cores); model {settings.model}")
    print(", ".join(f"{name} {version}" for name, version in record["versions"].items()))
    print(f"{work.describe()}; the kit multiplies with {record['product']} product")
    if load > 0.5:
        print(f"NOTE: the load average is {load:.1f}: something else is running here, do not quote these figures")
    return record


def make_weights(name: str, folder: str, pairs: list[tuple[str, str]]) -> None:
    """Save the model that both sides load: a fresh head, scaled so that its scores tell pairs apart."""
    import torch

    from crossenc_kit import CrossEncoder

    model = CrossEncoder(name, num_labels=1, seed=0, device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that the head is untrained
        raw = model.predict(pairs[:200], activation_fn="identity", show_progress_bar=False)
    head = [module for module in model.model.modules() if isinstance(module, torch.nn.Linear)][-1]
    with torch.no_grad():  # scores with mean 0 and standard deviation 1 before the sigmoid
        head.bias.sub_(float(raw.mean())).div_(float(raw.std()))
        head.weight.div_(float(raw.std()))
    model.save_pretrained(folder)


def load(side: str, folder: str, device: str, precision: str = "fp32", dropout: bool = True) -> Any:
    """The model of one side, by the constructor that both have."""
    import torch

    options: dict[str, Any] = {"device": device}
    if precision == "bf16":
        options["model_kwargs"] = {"dtype": torch.bfloat16}
    if not dropout:
        options["config_kwargs"] = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return importlib.import_module(PACKAGES[side]).CrossEncoder(folder, **options)


def predict(side: str, model: Any, work: Work, settings: argparse.Namespace, precision: str) -> np.ndarray:
    """Scores of all pairs, each side with its default batches."""
    return model.predict(work.pairs, show_progress_bar=False, **batches(side, settings))


def rank(side: str, model: Any, work: Work, settings: argparse.Namespace, precision: str) -> np.ndarray:
    """Scores of all passages in the order given, by one call of `rank` a query."""
    options = {"show_progress_bar": False, **batches(side, settings)}
    asked = zip(work.queries, work.documents, strict=True)
    return scores_of([model.rank(query, documents, **options) for query, documents in asked])


def rank_many(side: str, model: Any, work: Work, settings: argparse.Namespace, precision: str) -> np.ndarray:
    """The same of all queries in one call, which the peer does not have: its side is that of `rank`."""
    if side == "theirs":
        return rank(side, model, work, settings, precision)
    return scores_of(model.rank_many(work.queries, work.documents, show_progress_bar=False))


def scores_of(rankings: list[list[dict[str, Any]]]) -> np.ndarray:
    """The scores of all queries' hits, in the order in which the passages were given."""
    return np.array([hit["score"] for hits in rankings for hit in sorted(hits, key=lambda hit: hit["corpus_id"])])


def batches(side: str, settings: argparse.Namespace) -> dict[str, int]:
    return {"batch_size": settings.peer_batch_size} if side == "theirs" and settings.peer_batch_size else {}


def train(side: str, model: Any, work: Work, settings: argparse.Namespace, precision: str) -> np.ndarray:
    """The loss of each step, in the same batches on both sides; tokenising and the optimizer's making included."""
    return (train_ours if side == "ours" else train_theirs)(model, work, settings.device, precision)


def train_ours(model: Any, work: Work, device: str, precision: str) -> np.ndarray:
    from crossenc_kit import TrainingConfig
    from crossenc_kit import train as fine_tune

    config = TrainingConfig(
        batch_size=BATCH_SIZE, learning_rate=LEARNING_RATE, scheduler="constant", warmup_steps=0, precision=precision
    )
    return fine_tune(model, work.train, "bce", config).history.column("loss")[1]


def train_theirs(model: Any, work: Work, device: str, precision: str) -> np.ndarray:
    """The peer's collator, loss and backward pass in a bare loop, without the overhead of its Trainer."""
    import torch
    from sentence_transformers.cross_encoder import CrossEncoderDataCollator
    from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss

    from crossenc_kit.training.optimization import adamw, parameter_groups

    collate, loss_function = CrossEncoderDataCollator(model.preprocess), BinaryCrossEntropyLoss(model)
    optimizer = adamw(parameter_groups(model.named_parameters(), LEARNING_RATE))  # ours, fused, on both sides
    kind = torch.device(device).type
    model.train()
    losses = []
    for rows in work.batches():
        examples = [dict(zip(("sentence1", "sentence2", "label"), work.train[row], strict=True)) for row in rows]
        batch = collate(examples)
        labels = batch.pop("label").to(model.device)
        with torch.autocast(kind, torch.bfloat16) if precision == "bf16" else nullcontext():
            loss = loss_function(list(batch.values()), labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
    return np.array(losses)


TASKS: dict[str, Callable[..., np.ndarray]] = {
    "predict": predict,
    "rank": rank,
    "rank_many": rank_many,
    "train": train,
}


def compare_speed(task: str, folder: str, work: Work, settings: argparse.Namespace) -> Iterator[Goal]:
    """Pairs a second in each precision, after a look at whether both sides compute the same."""
    passages = sum(map(len, work.documents))
    counts = {"predict": len(work.pairs), "rank": passages, "rank_many": passages, "train": len(work.train)}
    for precision in settings.precision:
        weights = "fp32" if task == "train" else precision  # training in bf16 is autocast over fp32 weights
        runs = {
            side: partial(TASKS[task], side, load(side, folder, settings.device, weights), work, settings, precision)
            for side in SIDES
        }
        compare_answers(task, folder, work, settings, precision)
        seconds = interleave(runs, settings.repeats, synchronizer(settings.device))
        ours, theirs = ([counts[task] / value for value in seconds[side]] for side in SIDES)
        least, aim = TARGETS[task] if (settings.device, precision) == ("cpu", "fp32") else (None, None)
        yield Goal(f"{task}, {precision}", "pairs/s", ours, theirs, True, least, aim)


def compare_answers(task: str, folder: str, work: Work, settings: argparse.Namespace, precision: str) -> None:
    """Scores, or the losses of the first steps with dropout off: equal only if batches, gradients, updates are."""
    work = replace(work, train=work.train[: COMPARED_STEPS * BATCH_SIZE])

    def answer(side: str, precision: str) -> np.ndarray:
        weights = "fp32" if task == "train" else precision
        model = load(side, folder, settings.device, weights, dropout=False)
        return np.asarray(TASKS[task](side, model, work, settings, precision), dtype=float)

    ours, theirs = (answer(side, precision) for side in SIDES)
    if precision == "fp32":
        check_equal(task, ours, theirs, TOLERANCE)
    else:  # two orders of rounding: neither is right, so both are held against fp32
        check_precise(f"{task}, {precision}", ours, theirs, answer("theirs", "fp32"))


def synchronizer(device: str) -> Callable[[], Any]:
    import torch

    return torch.cuda.synchronize if device.startswith("cuda") else lambda: None


def compare_memory(folder: str, work: Work, settings: argparse.Namespace) -> Iterator[Goal]:
    """Peak memory of each task, each side alone in a process of its own."""
    for task in TASKS:
        measured: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
        for _ in range(min(settings.repeats, 3)):
            for side in SIDES:
                measured[side].append(in_own_process(memory_of, side, task, folder, work, settings))
        for what in measured["ours"][0]:
            ours, theirs = ([run[what] for run in measured[side]] for side in SIDES)
            least = 1.0 if what.startswith("peak") and settings.device == "cpu" else None
            yield Goal(f"{task}: {what}", "MiB", ours, theirs, least=least)


def memory_of(side: str, task: str, folder: str, work: Work, settings: argparse.Namespace) -> dict[str, float]:
    """MiB that one task takes: at most, at most above what imports take, and after the imports alone."""
    import torch

    importlib.import_module(PACKAGES[side]).CrossEncoder  # noqa: B018
    kind = json.loads((Path(folder) / "config.json").read_text())["model_type"].replace("-", "_")
    importlib.import_module(f"transformers.models.{kind}.modeling_{kind}")  # what the kit imports only on loading
    imported = peak_memory()
    TASKS[task](side, load(side, folder, settings.device), work, settings, "fp32")
    peak = peak_memory()
    sizes = {"peak": peak, "peak above imports": peak - imported, "imports": imported}
    if settings.device.startswith("cuda"):
        sizes["GPU, allocated at most"] = torch.cuda.max_memory_allocated() / MEBIBYTE
    return sizes


PARTS: dict[str, Callable[..., Iterator[Goal]]] = {
    **{task: partial(compare_speed, task) for task in TASKS},
    "memory": compare_memory,
    "import": lambda folder, _, settings: compare_imports(PACKAGES, folder, settings.repeats),
}

if __name__ == "__main__":
    main()
