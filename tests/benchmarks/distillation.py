"""Students of a few layers on real data, with gold labels alone and with a teacher: does the teacher help?

"gold" starts from evenly spaced layers of the untrained encoder, and its labels are people's. "copied" has the same
labels and starts from the same layers of the trained teacher. "taught" starts like "copied", and its labels are the
teacher's scores (Sanh et al., 2019). All take as many steps. `msmarco`: on the same lists; the teacher is a reranker of
all layers (`--teacher`, one of `reranking.py`). A further student, "public run", starts like "gold" and sees no label:
its teacher is a public run of a BERT model on the queries of TREC DL 2019, of which only the scores are there; on
these very queries its figure says how much of the run it learnt. `stsb`: "gold" and "copied" see the training pairs
twice; "taught" sees them once, and as many new pairs once, with the teacher's scores on all. "matched" is "taught"
after it learnt what the teacher's layers compute on a part of its own texts (`match_layers`, hidden states alone):
no label and no score more, but steps.

What a student scored is kept in `--runs`, and is not made again: seeds and students can be run one by one.

    python tests/benchmarks/distillation.py msmarco stsb --data-dir DATA --teacher FOLDER --runs RUNS --json result.json
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch
from distillation_tasks import MAX_LENGTH, TASKS
from fine_tuning import run_record, timed

from crossenc_kit import CrossEncoder, TrainingConfig, train
from crossenc_kit.distillation.layers import match_layers
from crossenc_kit.distillation.students import make_student
from crossenc_kit.lab.records import write_result

NOTEBOOK = "05_distillation"
USUAL = ["gold", "copied", "taught", "matched"]


class Student(NamedTuple):
    """What it is for, a number of layers, and what it learns from."""

    task: str
    layers: int
    labels: str

    def __str__(self) -> str:
        return f"{self.layers} layers, {self.labels}"


class Measured(NamedTuple):
    """A task, what its fixed systems scored, and what its students scored by seed."""

    name: str
    task: Any
    fixed: dict[str, Any]
    found: dict[str, dict[int, Any]]


def main() -> None:
    settings = parse_arguments()
    settings.runs.mkdir(parents=True, exist_ok=True)
    measured = []
    for name in settings.tasks:
        task = TASKS[name](settings)
        kinds = settings.labels or [*USUAL, *(["public run"] if name == "msmarco" else [])]
        students = [Student(name, layers, labels) for layers in settings.layers for labels in kinds]
        found: dict[str, dict[int, Any]] = {}
        for seed in settings.seeds:
            for student in students:
                if not settings.report or minutes_of(student, seed, settings).is_file():
                    found.setdefault(str(student), {})[seed] = studied(task, student, seed, settings)
        measured.append(Measured(name, task, task.baselines(), found))
    report(measured, settings)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("tasks", nargs="+", choices=TASKS)
    parser.add_argument(
        "--data-dir", type=Path, required=True, help="folder with rerank_msmarco/, stsb/ and the others"
    )
    parser.add_argument("--runs", type=Path, required=True, help="folder for what each student scored")
    parser.add_argument("--teacher", help="folder of a trained reranker of all layers (msmarco; stsb makes its own)")
    parser.add_argument("--model", default="minilm", help="whose layers the students start from")
    parser.add_argument("--layers", type=int, nargs="+", default=[3, 2])
    parser.add_argument(
        "--labels",
        nargs="+",
        choices=[*USUAL, "public run"],
        help="default: all",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--negatives", type=int, default=5, help="mined for each positive (msmarco)")
    parser.add_argument("--gold-loss", default="lambda_loss", help="of the lists with gold labels (msmarco)")
    parser.add_argument("--match-steps", type=int, default=960, help="of 8 pairs, of matched students")
    parser.add_argument("--threads", type=int, help="cores")
    parser.add_argument("--report", action="store_true", help="train nothing, report what is in the folder of runs")
    parser.add_argument("--json", type=Path)
    settings = parser.parse_args()
    if settings.threads:
        torch.set_num_threads(settings.threads)
    return settings


def stem_of(student: Student, seed: int, settings: argparse.Namespace) -> Path:
    return settings.runs / f"{student.task}-{student.layers}-{student.labels.replace(' ', '_')}-{seed}"


def minutes_of(student: Student, seed: int, settings: argparse.Namespace) -> Path:
    """Where a student's minutes are kept; it is written last."""
    stem = stem_of(student, seed, settings)
    return stem.with_name(f"{stem.name}.json")


def studied(task: Any, student: Student, seed: int, settings: argparse.Namespace) -> dict[str, Any]:
    """What the student scored, and its minutes; trained unless that is there."""
    stem, path = stem_of(student, seed, settings), minutes_of(student, seed, settings)
    if not path.is_file():
        data, loss, epochs = task.training(student.labels, seed)
        print(f"{student.task}, seed {seed}: {student}, {loss}, on {data!r}", file=sys.stderr, flush=True)
        model = make_student(start_of(student, task, seed, settings), student.layers)
        config = TrainingConfig(
            epochs=epochs,
            batch_size=task.batch_size,
            learning_rate=settings.learning_rate,
            seed=seed,
            token_budget=8192,
        )
        first = TrainingConfig(batch_size=8, learning_rate=1e-3, max_steps=settings.match_steps, seed=seed)
        matched = (task.teacher, first) if student.labels == "matched" else None
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
    return CrossEncoder(settings.model, num_labels=1, max_length=MAX_LENGTH[student.task], seed=seed, device="cpu")


def trained(model: CrossEncoder, data: Any, loss: str, config: TrainingConfig, matched: Any) -> None:
    """Train the student; with a teacher and settings as `matched`, on what its layers compute first."""
    if matched is not None:
        teacher, first = matched
        match_layers(model, teacher, data.texts, config=first, attention_weight=0.0)
    train(model, data, loss, config)


def report(measured: list[Measured], settings: argparse.Namespace) -> None:
    """Print every system on every test with the paired tests, and write the record."""
    comparisons: dict[str, Any] = {}
    for _, task, fixed, found in measured:
        systems = {name: [scored] for name, scored in fixed.items()}
        systems |= {name: [own["scored"] for own in seeds.values()] for name, seeds in found.items()}
        comparisons |= task.compare(systems)
    for test, compared in comparisons.items():
        print(f"\n{test}, {compared['metric']}")
        for name, row in compared["systems"].items():
            print(f"  {name:<24}{row['mean']:.4f}  {row['interval'][0]:.3f} to {row['interval'][1]:.3f}")
        for name, row in compared["differences"].items():
            print(f"  {name:<50}{row['difference']:+.4f}  p {row['p']:.4f}")
    if settings.json:
        runs = [record(measured, seed, settings) for seed in settings.seeds]
        write_result(settings.json, runs, what=(__doc__ or "").splitlines()[0], comparisons=comparisons)


def record(measured: list[Measured], seed: int, settings: argparse.Namespace) -> dict[str, Any]:
    """A run as the kit's records have it: of each system its metrics on each test, and the minutes of each task."""
    metrics: dict[str, dict[str, Any]] = {}
    for name, task, fixed, found in measured:
        for system, scored in fixed.items():
            metrics.setdefault(system, {}).update(task.metrics(scored))
        for system, own in ((system, seeds[seed]) for system, seeds in found.items() if seed in seeds):
            minutes = own["minutes"]["cpu_minutes"]
            metrics.setdefault(system, {}).update({**task.metrics(own["scored"]), f"{name}_cpu_minutes": minutes})
    command = f"python tests/benchmarks/distillation.py {' '.join(settings.tasks)} --data-dir DATA --runs RUNS"
    command += f" --teacher FOLDER --seeds {seed}"
    names = ("tasks", "model", "learning_rate", "negatives", "gold_loss", "match_steps")
    return run_record(NOTEBOOK, settings, names, metrics, command, seed=seed)


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=UserWarning)
    main()
