"""Fine-tuning on classes beside sentence-transformers' trainer: the same data, model, epochs and learning rate.

For each seed the kit trains, then the same on the second text alone (what the labels give away), then the peer; each is
scored on the test split. The record holds accuracy or average precision, minutes and CPU minutes of training.

    python tests/benchmarks/classification.py nli --data-dir DATA --json data/results/03_nli_classification.json
    python tests/benchmarks/classification.py duplicates --data-dir DATA --json data/results/03_duplicates.json
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from fine_tuning import run_record, timed, train_peer

from crossenc_kit import CrossEncoder, Pairs, TrainingConfig, evaluate_classification, read_nli, train
from crossenc_kit.data import read_duplicates
from crossenc_kit.lab.records import describe_result, write_result

READERS: dict[str, Callable[..., Pairs]] = {"nli": read_nli, "duplicates": read_duplicates}
NOTEBOOK = "03_nli_classification"
MAX_LENGTH = 128


def main() -> None:
    settings = parse_arguments()
    runs = []
    for seed in settings.seeds:
        splits = [READERS[settings.task](settings.data_dir, split) for split in ("train", "test")]
        training, test = (pairs[: settings.pairs or None] for pairs in splits)
        metrics = {}
        for side in settings.sides:
            print(f"{settings.task}, seed {seed}: {side} ...", file=sys.stderr, flush=True)
            metrics[side] = SIDES[side](training, test, settings, seed)
            print(metrics[side], file=sys.stderr, flush=True)
        runs.append(record(settings, seed, metrics, training))
        if settings.json:  # after each seed, so that a run cut short leaves what it has
            result = write_result(settings.json, runs, what=(__doc__ or "").splitlines()[0])
    if settings.json:
        print(describe_result(result))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("task", choices=READERS)
    parser.add_argument("--data-dir", default=None, help="folder with nli/ or duplicates/")
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--pairs", type=int, default=0, help="pairs of each split; 0: all")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--threads", type=int, help="of each side; one apiece is fairest on a busy machine")
    parser.add_argument("--json", type=Path)
    settings = parser.parse_args()
    if settings.threads:
        torch.set_num_threads(settings.threads)
    return settings


def ours(training: Pairs, test: Pairs, settings: argparse.Namespace, seed: int) -> dict[str, float]:
    """The kit's own loop."""
    model = new_model(settings, seed)
    config = TrainingConfig(
        epochs=settings.epochs, batch_size=settings.batch_size, learning_rate=settings.learning_rate, seed=seed
    )
    loss = "bce" if settings.task == "duplicates" else "cross_entropy"
    minutes = timed(lambda: train(model, training, loss, config))
    return {**measured(model, test), **minutes}


def second_text_alone(training: Pairs, test: Pairs, settings: argparse.Namespace, seed: int) -> dict[str, float]:
    """The same with the first text left empty."""
    blind = [replace(pairs, left=[""] * len(pairs)) for pairs in (training, test)]
    return ours(blind[0], blind[1], settings, seed)


def theirs(training: Pairs, test: Pairs, settings: argparse.Namespace, seed: int) -> dict[str, float]:
    """sentence-transformers' trainer, see `train_peer`."""
    labels = training.labels if settings.task == "nli" else training.labels.astype(float)  # type: ignore[union-attr]
    columns = {"sentence1": training.left, "sentence2": training.right, "label": labels.tolist()}  # type: ignore[union-attr]
    loss = "CrossEntropyLoss" if settings.task == "nli" else "BinaryCrossEntropyLoss"
    warmup = len(training) // settings.batch_size * settings.epochs // 10
    peer, minutes = train_peer(new_model(settings, seed), columns, loss, settings, seed, warmup, 100)
    return {**measured(lambda pairs: peer.predict(pairs, show_progress_bar=False), test), **minutes}


SIDES = {"crossenc_kit": ours, "second text alone": second_text_alone, "sentence-transformers": theirs}


def new_model(settings: argparse.Namespace, seed: int) -> CrossEncoder:
    labels = 1 if settings.task == "duplicates" else 3
    return CrossEncoder(settings.model, num_labels=labels, max_length=MAX_LENGTH, seed=seed, device="cpu")


def measured(scorer: Any, test: Pairs) -> dict[str, float]:
    report = evaluate_classification(scorer, test, resamples=0)
    more = {} if report.average_precision is None else {"average_precision": report.average_precision}
    return {**more, "accuracy": report.accuracy, "macro_f1": report.macro_f1, "ece": report.ece}


def record(settings: argparse.Namespace, seed: int, metrics: dict[str, Any], training: Pairs) -> dict[str, Any]:
    """A run as the kit's records have it."""
    names = ("task", "model", "epochs", "batch_size", "learning_rate")
    command = f"python tests/benchmarks/classification.py {settings.task} --data-dir DATA --seeds {seed}"
    return run_record(NOTEBOOK, settings, names, metrics, command, pairs=len(training), seed=seed)


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=UserWarning)
    main()
