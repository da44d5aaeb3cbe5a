"""The command `crossenc-kit`: run notebooks, compare experiments, score pairs, measure speed."""

from __future__ import annotations

import argparse
import os
import pkgutil
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

from crossenc_kit import __version__

EXPERIMENTS = "folder of the experiments (default: experiments)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0: done; 1: `doctor` found something missing; 2: an error; 130: interrupted
    """
    options = _parser().parse_args(arguments)
    try:
        # imported only now, since torch takes seconds and `--help` does not need it
        return pkgutil.resolve_name(f"crossenc_kit.{options.command}")(options)
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
    """Join the lines of a message; an unforeseen kind of error gets its type and a hint."""
    joined = re.sub(r"(?<=[^.:;,!?\s])\s*\n\s*(?=[A-Z])", ". ", str(error))  # unless a sign ends the line
    joined = re.sub(r"(?<=[^.:;,!?\s])\s*\n\s*(?=\S)", "; ", joined)
    message = " ".join(joined.split())
    ours = type(error).__module__.startswith("crossenc_kit")
    if ours or isinstance(error, (ValueError, OSError, ImportError)):
        return message
    return f"{type(error).__name__}: {message} (--debug shows where)"


def _parser() -> argparse.ArgumentParser:
    about = "Cross-encoders: run the notebooks, compare experiments, score pairs."
    parser = argparse.ArgumentParser("crossenc-kit", description=about)
    parser.add_argument("--version", action="version", version=f"crossenc-kit {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, command: str, summary: str) -> Callable[..., Any]:
        text = f"{summary[0].upper()}{summary[1:]}."
        sub = commands.add_parser(name, help=summary, description=text)
        sub.add_argument("--debug", action="store_true", help="show the traceback of an error")
        sub.set_defaults(command=command)
        return sub.add_argument

    number: dict[str, Any] = {"type": int, "metavar": "N"}
    columns: dict[str, Any] = {"nargs": 2, "metavar": ("LEFT", "RIGHT")}
    two_texts, device = "the columns with the two texts", "cpu, cuda, cuda:1, ... (default: the best)"

    arg = add("run", "lab.experiments:run_command", "run a notebook as an experiment and keep its record")
    arg("notebook", metavar="NOTEBOOK", help='a path, or a name such as "02_sts_regression" or "02"')
    pair: dict[str, Any] = {"nargs": 2, "action": "append", "metavar": ("NAME", "VALUE")}
    arg("-p", dest="parameters", default=[], help="set a parameter; repeat for more", **pair)
    arg("--name", help="name of the experiment (default: the notebook's and the time)")
    arg("--output-dir", default="experiments", metavar="DIR", help=EXPERIMENTS)

    add("doctor", "lab.doctor:doctor_command", "check that everything the notebooks need is there")

    arg = add("results", "lab.records:results_command", "compare experiments, with mean and spread over seeds")
    arg("folder", nargs="?", default="experiments", metavar="FOLDER", help=EXPERIMENTS)
    arg("--metrics", nargs="+", metavar="NAME", help="the columns (default: the first five)")
    arg("--write", metavar="FILE", help="also combine the finished ones into one JSON record")

    arg = add("score", "inference.bulk:score_command", "score the pairs of a file with a model")
    arg("model", metavar="MODEL", help="a model's folder or hub name")
    arg("file", metavar="FILE", help="JSON Lines, TSV or CSV with a header, parquet: a pair per row")
    arg("--output", metavar="PATH", help="JSON Lines, or a folder/ of parquet shards (default: print)")
    arg("--columns", help=two_texts, **columns)
    arg("--keep", nargs="+", metavar="NAME", help="columns of the input to write beside the scores")
    arg("--shards", action="store_true", help="write a folder of shards, whatever the output's name")
    arg("--shard-size", help="rows per shard: what a kill costs at most", **number)
    arg("--activation", metavar="NAME", help="sigmoid, softmax, ... (default: the model's)")
    arg("--batch-size", help="most pairs in a batch", **number)
    arg("--threads", help="batches side by side on a CPU (default: all cores)", **number)
    arg("--device", help=device)
    arg("--encoding", default="utf-8", help="of a text file (default: utf-8)")

    arg = add(
        "bench", "lab.benchmark:bench_command", "compare speed and scores with sentence-transformers on this machine"
    )
    arg("model", nargs="?", default="minilm", metavar="MODEL", help="folder or hub name (minilm)")
    arg("--pairs", metavar="FILE", help="a file of pairs (default: the sample data)")
    arg("--columns", help=two_texts, **columns)
    arg("--limit", help="most pairs to score in a turn", **number)
    arg("--repeats", default=5, help="counted turns of each side (default: 5)", **number)
    arg("--batch-size", help="pairs in a batch, of all sides (default: their own)", **number)
    arg("--device", help=device)
    arg("--json", action="store_true", help="print the report as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
