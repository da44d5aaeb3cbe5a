"""Students of a few layers on real data, with gold labels alone and with a teacher: does the teacher help?

"gold" starts from evenly spaced layers of the untrained encoder, and its labels are people's. "copied" has the same
labels and starts from the same layers of the trained teacher. "taught" starts like "copied", and its labels are the
teacher's scores (Sanh et al., 2019). All take as many steps. `msmarco`: on the same lists; the teacher is a reranker of
all layers (`--teacher`, one of `reranking.py`). A further student, "public run", starts like "gold" and sees no label:
its teacher is a public run of a BERT model on the queries of TREC DL 2019, of which only the scores are there. `stsb`:
"gold" and "copied" see the training pairs twice; "taught" sees them once, and as many new pairs once, with the
teacher's scores on all. "matched" is "taught" after one epoch of `match_layers` on its own texts: twice the steps, so
it is made only where `--labels` asks for it.

What a student scored is kept in `--runs`, and is not made again: seeds and students can be run one by one.

    python tests/benchmarks/distillation.py msmarco --data-dir DATA --teacher FOLDER --runs RUNS --json result.json
    python tests/benchmarks/distillation.py stsb --data-dir DATA --runs RUNS --json result.json
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from distillation_tasks import MAX_LENGTH, TASKS
from fine_tuning import run_record, timed

from crossenc_kit import CrossEncoder, TrainingConfig, train
from crossenc_kit.layer_matching import match_layers
from crossenc_kit.records import write_result
from crossenc_kit.students import make_student

NOTEBOOK = "05_distillation"
USUAL = ["gold", "copied", "taught"]


class Student(NamedTuple):
    """A number of layers, and what it learns from."""

    layers: int
    labels: str

    def __str__(self) -> str:
        return f"{self.layers} layers, {self.labels}"


def main() -> None:
    settings = parse_arguments()
    settings.runs.mkdir(parents=True, exist_ok=True)
    task = TASKS[settings.task](settings)
    kinds = [*USUAL, *(["public run"] if settings.task == "msmarco" else [])]
    students = [Student(layers, labels) for layers in settings.layers for labels in settings.labels or kinds]
    found: dict[str, dict[int, Any]] = {}
    for seed in settings.seeds:
        for student in students:
            if not settings.report or minutes_of(student, seed, settings).is_file():
                found.setdefault(str(student), {})[seed] = studied(task, student, seed, settings)
    report(task, found, settings)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("task", choices=TASKS)
    parser.add_argument(
        "--data-dir", type=Path, required=True, help="folder with rerank_msmarco/, stsb/ and the others"
    )
    parser.add_argument("--runs", type=Path, required=True, help="folder for what each student scored")
    parser.add_argument("--teacher", help="folder of a trained model of all layers (stsb: made if there is none)")
    parser.add_argument("--model", default="minilm", help="whose layers the students start from")
    parser.add_argument("--layers", type=int, nargs="+", default=[3, 2])
    parser.add_argument(
        "--labels",
        nargs="+",
        choices=["gold", "copied", "taught", "public run", "matched"],
        help="default: all but matched",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--negatives", type=int, default=5, help="mined for each positive (msmarco)")
    parser.add_argument("--gold-loss", default="lambda_loss", help="of the lists with gold labels (msmarco)")
    parser.add_argument("--threads", type=int, help="cores")
    parser.add_argument("--report", action="store_true", help="train nothing, report what is in the folder of runs")
    parser.add_argument("--json", type=Path)
    settings = parser.parse_args()
    if settings.threads:
        torch.set_num_threads(settings.threads)
    return settings


def stem_of(student: Student, seed: int, settings: argparse.Namespace) -> Path:
    return settings.runs / f"{settings.task}-{student.layers}-{student.labels.replace(' ', '_')}-{seed}"


def minutes_of(student: Student, seed: int, settings: argparse.Namespace) -> Path:
    """Where a student's minutes are kept; it is written last."""
    stem = stem_of(student, seed, settings)
    return stem.with_name(f"{stem.name}.json")


def studied(task: Any, student: Student, seed: int, settings: argparse.Namespace) -> dict[str, Any]:
    """What the student scored, and its minutes; trained unless that is there."""
    stem, path = stem_of(student, seed, settings), minutes_of(student, seed, settings)
    if not path.is_file():
        data, loss, epochs = task.training(student.labels, seed)
        print(f"{settings.task}, seed {seed}: {student}, {loss}, on {data!r}", file=sys.stderr, flush=True)
        model = make_student(start_of(student, task, seed, settings), student.layers)
        config = TrainingConfig(
            epochs=epochs,
            batch_size=task.batch_size,
            learning_rate=settings.learning_rate,
            seed=seed,
            token_budget=8192,
        )
        matched = task.teacher if student.labels == "matched" else None
        minutes = timed(lambda: trained(model, data, loss, config, matched))
        model.save_pretrained(stem)
        scored = task.score(model)
        task.keep(stem, scored)
        path.write_text(json.dumps(minutes))
        print(json.dumps(task.metrics(scored)), file=sys.stderr, flush=True)
    return {"minutes": json.loads(path.read_text()), "scored": task.kept(stem)}


def start_of(student: Student, task: Any, seed: int, settings: argparse.Namespace) -> CrossEncoder:
    """The model whose layers a student has at first: the untrained encoder, or the teacher."""
    if student.labels in ("copied", "taught", "matched"):
        return task.teacher
    return CrossEncoder(settings.model, num_labels=1, max_length=MAX_LENGTH[settings.task], seed=seed, device="cpu")


def trained(model: CrossEncoder, data: Any, loss: str, config: TrainingConfig, teacher: CrossEncoder | None) -> None:
    """Train the student; with a teacher, on what its layers compute first."""
    if teacher is not None:
        first = TrainingConfig(epochs=1, batch_size=32, learning_rate=config.learning_rate, seed=config.seed)
        match_layers(model, teacher, data.texts, config=first)
    train(model, data, loss, config)


def report(task: Any, found: Mapping[str, Mapping[int, Any]], settings: argparse.Namespace) -> None:
    """Print every system on every test with the paired tests, and write the record."""
    fixed = task.baselines()
    systems = {name: [scored] for name, scored in fixed.items()}
    systems |= {name: [own["scored"] for own in seeds.values()] for name, seeds in found.items()}
    comparisons = task.compare(systems)
    for test, compared in comparisons.items():
        print(f"\n{test}, {compared['metric']}")
        for name, row in compared["systems"].items():
            print(f"  {name:<24}{row['mean']:.4f}  {row['interval'][0]:.3f} to {row['interval'][1]:.3f}")
        for name, row in compared["differences"].items():
            print(f"  {name:<50}{row['difference']:+.4f}  p {row['p']:.4f}")
    if settings.json:
        known = {name: task.metrics(scored) for name, scored in fixed.items()}
        seeds = [seed for seed in settings.seeds if all(seed in own for own in found.values())]
        runs = [record(task, found, known, seed, settings) for seed in seeds]
        write_result(settings.json, runs, what=(__doc__ or "").splitlines()[0], comparisons=comparisons)


def record(task: Any, found: Any, known: dict[str, Any], seed: int, settings: argparse.Namespace) -> dict[str, Any]:
    """A run as the kit's records have it."""
    own = {
        name: {**task.metrics(seeds[seed]["scored"]), "cpu_minutes": seeds[seed]["minutes"]["cpu_minutes"]}
        for name, seeds in found.items()
    }
    names = ("task", "model", "learning_rate")
    names += ("negatives", "gold_loss") if settings.task == "msmarco" else ()
    command = f"python tests/benchmarks/distillation.py {settings.task} --data-dir DATA --runs RUNS --seeds {seed}"
    command += " --teacher FOLDER" if settings.teacher else ""
    return run_record(NOTEBOOK, settings, names, {**known, **own}, command, seed=seed)


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=UserWarning)
    main()
