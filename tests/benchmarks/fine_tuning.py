"""What the comparisons of fine-tuning share: minutes, sentence-transformers' trainer, a run as the records have it."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from crossenc_kit import CrossEncoder
from crossenc_kit.history import provenance


def timed(work: Callable[[], Any]) -> dict[str, float]:
    """Minutes of the clock, and of all threads."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return {"minutes": (time.perf_counter() - wall) / 60, "cpu_minutes": (time.process_time() - cpu) / 60}


def train_peer(
    model: CrossEncoder,
    columns: Mapping[str, list],
    loss: str,
    settings: argparse.Namespace,
    seed: int,
    warmup_steps: int,
    logging_steps: int,
) -> tuple[Any, dict[str, float]]:
    """sentence-transformers' trainer from the same initial weights, with the kit's weight decay; the model, minutes."""
    from datasets import Dataset
    from sentence_transformers import CrossEncoder as Peer
    from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments, losses

    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        peer = Peer(folder, device="cpu", max_length=model.max_length)
        arguments = CrossEncoderTrainingArguments(
            output_dir=f"{folder}/run",
            num_train_epochs=settings.epochs,
            per_device_train_batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            weight_decay=0.01,
            warmup_steps=warmup_steps,
            seed=seed,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            logging_steps=logging_steps,
            use_cpu=True,
        )
        rows = Dataset.from_dict(dict(columns))
        trainer = CrossEncoderTrainer(peer, arguments, train_dataset=rows, loss=getattr(losses, loss)(peer))
        return peer, timed(trainer.train)


def run_record(
    notebook: str, settings: argparse.Namespace, names: Sequence[str], metrics: Any, command: str, **more: Any
) -> dict[str, Any]:
    """A finished run: its settings of these names, and `more`."""
    return {
        "notebook": notebook,
        "status": "finished",
        "parameters": {**{name: getattr(settings, name) for name in names}, **more},
        "metrics": metrics,
        "provenance": provenance("cpu"),
        "command": command,
    }
