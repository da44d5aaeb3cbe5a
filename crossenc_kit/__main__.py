"""The command `crossenc-kit`: run a notebook as an experiment, check the installation, compare runs, score, measure."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from crossenc_kit import __version__
from crossenc_kit.lab.doctor import _between, doctor


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, 1 (`doctor` found something missing), 2 (an error), 130 (interrupted)."""
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except KeyboardInterrupt:
        print("crossenc-kit: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if options.debug:
            raise
        print(f"crossenc-kit: {_one_line(error)}", file=sys.stderr)
        return 2


def _one_line(error: Exception) -> str:
    """The message of an error that the kit foresaw; of any other its type too, and how to see more."""
    message = ""
    for line in (" ".join(line.split()) for line in str(error).splitlines()):
        message += _between(message, line) + line
    if isinstance(error, (ValueError, OSError, ImportError)) or type(error).__module__.startswith("crossenc_kit"):
        return message
    return f"{type(error).__name__}: {message} (--debug shows where)"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "crossenc-kit", description="Cross-encoders: run the notebooks, compare runs, score pairs."
    )
    parser.add_argument("--version", action="version", version=f"crossenc-kit {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, command: Callable[[Any], int], summary: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        sub.add_argument("--debug", action="store_true", help="show the traceback of an error")
        sub.set_defaults(command=command)
        return sub

    sub = add("run", run, "run a notebook as an experiment and keep its record")
    sub.add_argument("notebook", metavar="NOTEBOOK", help='a path, or a name such as "02_sts_regression" or "02"')
    sub.add_argument(
        "-p",
        dest="parameters",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="set a parameter of the notebook; repeat for more",
    )
    sub.add_argument("--name", help="name of the run (default: the notebook's and the time)")
    sub.add_argument(
        "--output-dir", default="experiments", metavar="DIR", help="folder of all runs (default: experiments)"
    )

    add("doctor", doctor, "check that everything the notebooks need is there")

    sub = add("results", results, "compare the runs in a folder, with mean and spread over seeds")
    sub.add_argument(
        "folder", nargs="?", default="experiments", metavar="FOLDER", help="folder of the runs (default: experiments)"
    )
    sub.add_argument("--metrics", nargs="+", metavar="NAME", help="the columns (default: the first five)")
    sub.add_argument("--write", metavar="FILE", help="also combine the finished runs into one JSON record")

    sub = add("score", score, "score the pairs of a file with a model")
    sub.add_argument("model", metavar="MODEL", help="a model's folder or hub name")
    sub.add_argument("file", metavar="FILE", help="JSON Lines, TSV or CSV with a header, parquet: a pair in each row")
    sub.add_argument("--output", metavar="PATH", help="JSON Lines, or a folder/ of parquet shards (default: print)")
    sub.add_argument("--columns", nargs=2, metavar=("LEFT", "RIGHT"), help="the columns with the two texts")
    sub.add_argument("--keep", nargs="+", metavar="NAME", help="columns of the input to write beside the scores")
    sub.add_argument("--shards", action="store_true", help="the output is a folder of shards, whatever its name")
    sub.add_argument("--shard-size", type=int, metavar="N", help="rows per shard: what a kill costs at most")
    sub.add_argument("--activation", metavar="NAME", help="sigmoid, identity, softmax, ... (default: the model's)")
    sub.add_argument("--batch-size", type=int, metavar="N", help="most pairs in a batch")
    sub.add_argument("--threads", type=int, metavar="N", help="batches side by side on a CPU (default: all cores)")
    sub.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: the best there is)")
    sub.add_argument("--encoding", default="utf-8", help="of a text file (default: utf-8)")

    sub = add("bench", bench, "compare speed and scores with sentence-transformers and transformers on this machine")
    sub.add_argument("model", nargs="?", default="minilm", metavar="MODEL", help="folder or hub name (default: minilm)")
    sub.add_argument("--pairs", metavar="FILE", help="a file of pairs (default: the sample data)")
    sub.add_argument("--columns", nargs=2, metavar=("LEFT", "RIGHT"), help="the columns with the two texts")
    sub.add_argument("--limit", type=int, metavar="N", help="most pairs to score in a run")
    sub.add_argument("--repeats", type=int, default=5, metavar="N", help="counted runs of each side (default: 5)")
    sub.add_argument("--batch-size", type=int, metavar="N", help="pairs in a batch, of all sides (default: their own)")
    sub.add_argument("--device", help="cpu, cuda, ... (default: the best there is)")
    sub.add_argument("--json", action="store_true", help="print a JSON record in place of the table")
    return parser


def run(options: argparse.Namespace) -> int:
    """Run a notebook and print what came of it."""
    from crossenc_kit.lab.experiments import run_notebook
    from crossenc_kit.lab.records import align, flat

    if os.environ.get("CROSSENC_KIT_DATA"):  # the notebook runs in another folder
        os.environ["CROSSENC_KIT_DATA"] = os.path.abspath(os.environ["CROSSENC_KIT_DATA"])
    record = run_notebook(options.notebook, dict(options.parameters), options.output_dir, options.name)
    folder = Path(os.path.relpath(record["folder"]))
    executed = folder / f"{record['notebook']}.ipynb"
    if record["status"] != "finished":
        reason = record["error"]["message"].splitlines() or ["stopped"]
        where = f"{record['notebook']}, cell {record['error']['cell'] + 1}"
        print(f"crossenc-kit: {where}: {reason[0]} (executed so far: {executed})", file=sys.stderr)
        return 2
    numbers = flat(record["metrics"]).items()
    table = [[name, f"{value:.4f}" if isinstance(value, float) else str(value)] for name, value in numbers]
    print(f"\n{record['notebook']} finished in {record['minutes']:.1f} minutes: {folder}\n")
    print(*(f"  {line}" for line in align([["metric", "value"], *table])), "", sep="\n")
    opener = {"darwin": "open", "win32": "start"}.get(sys.platform, "xdg-open")
    for figure in sorted(folder.glob("figures/*.png")):
        print(f"figure    {opener} {figure}")
    print(f"notebook  jupyter lab {executed}")
    return 0


def results(options: argparse.Namespace) -> int:
    """Print tables of the runs in a folder."""
    from crossenc_kit.lab.records import load_records, results_table, write_result

    runs = load_records(options.folder)
    print(results_table(runs, options.metrics))
    if options.write:
        write_result(options.write, [run for run in runs if run["status"] == "finished"])
        print(f"\nwritten: {options.write}")
    return 0


def score(options: argparse.Namespace) -> int:
    """Score the pairs of a file."""
    from crossenc_kit.inference.bulk import score_command

    return score_command(options)


def bench(options: argparse.Namespace) -> int:
    """Compare speed and scores on this machine."""
    from crossenc_kit.lab.benchmark import bench_command

    return bench_command(options)


if __name__ == "__main__":
    sys.exit(main())
