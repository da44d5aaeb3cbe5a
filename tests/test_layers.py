"""Imports flow down one table of levels, and importing is cheap."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import crossenc_kit

PACKAGE = Path(crossenc_kit.__file__).parent

# A file imports only from files of lower levels. Levels are those of the map in crossenc_kit/__init__.py.
LEVELS = {
    **dict.fromkeys(["adapters", "arrays", "ranking_checks"], -1),  # below even the metrics and the losses
    **dict.fromkeys(["pairs", "metrics", "backbones", "history", "figures", "folders", "cards", "parameters"], 0),
    **dict.fromkeys(["training_config", "workers", "optimization", "processes", "products"], 0),
    **dict.fromkeys(["classification_metrics", "calibration", "comparison", "ranking_metrics"], 0),
    **dict.fromkeys(["activations", "quantization", "ranking_losses", "scorers"], 0),
    **dict.fromkeys(
        [
            "losses",
            "tables",
            "batches",
            "retrieval",
            "evaluation",
            "exercises",
            "records",
            "loading",
            "ranking",
            "classes",
        ],
        1,
    ),
    **dict.fromkeys(["live", "pictures", "tradeoffs", "checkpoint", "classification_plots"], 1),
    **dict.fromkeys(["readers", "packed", "plots", "runs", "optimizer_state", "run_guard"], 2),
    **dict.fromkeys(["classification", "explain", "sentence_transformers_evaluators"], 2),
    "ensembles": 1,
    "score_shards": 1,
    **{"teachers": 2, "pickled_scores": 1, "score_rows": 4, "teacher_files": 5, "augmentation": 3},
    "malformed": 1,
    **dict.fromkeys(["collection", "trec", "text_streams", "candidate_rows"], 2),
    **dict.fromkeys(["ranking_readers", "candidates"], 3),
    "searches": 1,
    "first_stages": 2,
    "judgements": 2,
    "negatives": 3,
    "mining": 4,
    **{"run_metrics": 1, "run_comparison": 2, "ranking_evaluation": 3, "ranking_evaluators": 5},
    "ranking_plots": 2,
    "sentence_transformers_collections": 4,
    **{"measuring": 0, "progress": 0, "parquet": 1, "pair_stream": 3, "score_folder": 3},
    **{"block_scoring": 4, "scoring_pool": 4, "bench": 4, "bulk": 5},
    "sources": 1,
    "published": 2,
    "truncation": 0,
    "long_documents": 2,
    "reranking": 4,
    **dict.fromkeys(["label_readers", "sentence_transformers_reranking"], 3),
    **dict.fromkeys(["label_checks", "in_batch"], 2),
    **dict.fromkeys(["model", "micro_batches"], 3),
    **{"layer_losses": 0, "distillation": 3, "students": 4, "layer_maps": 5, "layer_matching": 6},
    **{"drift": 1, "onnx_session": 1, "export_reports": 1},
    **{"onnx_graph": 2, "backends": 3, "export": 4},
    "training_run": 4,
    **dict.fromkeys(["resume", "cached"], 5),
    "training": 6,
    "temperature": 4,
    "sentence_transformers_api": 7,
    "__main__": 8,
}
SIDEWAYS = {("model", "packed"), ("model", "backends")}

# Heavy packages are imported where they are needed; torch also at the top of files that are torch code.
HEAVY = {"transformers", "datasets", "accelerate", "matplotlib", "IPython", "ipywidgets", "papermill", "nbformat"}
HEAVY |= {"peft", "pyarrow", "onnx", "onnxruntime", "onnxscript"}
HEAVY |= {
    "sentence_transformers",
    "pandas",
    "scipy",
    "sklearn",
    "jupyter_client",
    "huggingface_hub",
    "tokenizers",
    "peft",
}
WITHOUT_TORCH = ["pairs", "metrics", "history", "figures", "tables", "readers", "evaluation", "exercises"]
WITHOUT_TORCH += ["classification_metrics", "calibration", "comparison", "classification", "explain", "label_readers"]
WITHOUT_TORCH += ["sources", "published", "arrays"]
WITHOUT_TORCH += ["measuring", "progress", "parquet", "pair_stream", "score_folder", "bulk", "scoring_pool", "bench"]
WITHOUT_TORCH += ["searches", "first_stages", "judgements", "negatives", "mining"]
WITHOUT_TORCH += ["run_metrics", "run_comparison", "ranking_evaluation", "ranking_evaluators"]
WITHOUT_TORCH += ["ranking_plots"]
WITHOUT_TORCH += ["malformed", "collection", "trec", "text_streams", "candidate_rows", "candidates", "ranking_readers"]
WITHOUT_TORCH += ["truncation", "ranking", "long_documents", "reranking", "scorers"]
WITHOUT_TORCH += ["ensembles", "score_shards", "teachers", "teacher_files", "augmentation"]
WITHOUT_TORCH += [
    "classification_plots",
    "ranking_metrics",
    "parameters",
    "records",
    "runs",
    "live",
    "pictures",
    "plots",
    "tradeoffs",
    "backbones",
    "__main__",
]
WITHOUT_TORCH += ["drift", "export_reports", "backends"]

FILES = sorted(path.stem for path in PACKAGE.glob("*.py"))


def imports(tree):
    """(line, name) of everything of the kit that a file imports, wherever in the file; names without the package's."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            yield from ((node.lineno, n.partition(".")[2]) for n in names if n.split(".")[0] == "crossenc_kit")
        elif isinstance(node, ast.ImportFrom):
            source = f"crossenc_kit.{node.module or ''}".rstrip(".") if node.level else node.module
            if source == "crossenc_kit":
                names = [alias.name for alias in node.names]
                yield from ((node.lineno, crossenc_kit.PUBLIC.get(n, n)) for n in names if not n.startswith("__"))
            elif source.startswith("crossenc_kit."):
                yield node.lineno, source.split(".")[1]


def wrong_imports(name, source):
    found = []
    for line, other in imports(ast.parse(source)):
        if other not in LEVELS:
            found.append(
                f"line {line} imports {other or 'crossenc_kit itself'!r}, which the table of levels does not name"
            )
        elif LEVELS[other] >= LEVELS[name] and (name, other) not in SIDEWAYS:
            found.append(f"line {line}: {name} (level {LEVELS[name]}) imports {other} (level {LEVELS[other]})")
    return found


def test_every_file_has_a_level_and_none_is_in_a_folder():
    assert sorted(set(FILES) - set(LEVELS) - {"__init__"}) == []
    assert sorted(path.parent.name for path in PACKAGE.glob("*/*.py")) == []


@pytest.mark.parametrize("name", [name for name in FILES if name in LEVELS])
def test_imports_flow_down(name):
    assert wrong_imports(name, (PACKAGE / f"{name}.py").read_text(encoding="utf-8")) == []


def test_an_import_upwards_is_seen_in_every_spelling():
    for line in (
        "import crossenc_kit.model",
        "from crossenc_kit.model import CrossEncoder",
        "from crossenc_kit import CrossEncoder",
        "from crossenc_kit import model",
        "from .model import CrossEncoder",
        "from . import model",
        "def f():\n    from crossenc_kit.model import CrossEncoder",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from crossenc_kit.model import CrossEncoder",
        "from crossenc_kit import metrics",  # the same level
        "import crossenc_kit",
    ):
        assert len(wrong_imports("pairs", line)) == 1, line
    assert wrong_imports("model", "from crossenc_kit.packed import forward\nfrom crossenc_kit import __version__") == []
    assert len(wrong_imports("packed", "from crossenc_kit.model import CrossEncoder")) == 1


@pytest.mark.parametrize("name", FILES)
def test_heavy_packages_are_not_imported_at_the_top_of_a_file(name):
    tree = ast.parse((PACKAGE / f"{name}.py").read_text(encoding="utf-8"))
    top = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = {a.name for n in top if isinstance(n, ast.Import) for a in n.names}
    names |= {n.module for n in top if isinstance(n, ast.ImportFrom) and n.module}
    assert sorted({name.split(".")[0] for name in names} & HEAVY) == []


def in_a_fresh_process(code):
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    command = [sys.executable, "-c", code]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)


def test_importing_the_package_takes_milliseconds_and_imports_nothing_heavy():
    code = """
import json, resource, sys
def cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
start = cpu()
import crossenc_kit
print(json.dumps([cpu() - start, sorted(set(name.split(".")[0] for name in sys.modules))]))
"""
    seconds, modules = in_a_fresh_process(code)
    assert {"torch", "transformers", "numpy"} & set(modules) == set()
    assert seconds < 0.1


def test_files_that_are_not_torch_code_import_no_torch():
    names = [name for name in WITHOUT_TORCH if name in FILES]
    lines = [f"import crossenc_kit.{name}; found.append([{name!r}, 'torch' in sys.modules])" for name in names]
    code = "\n".join(["import json, sys; found = []", *lines, "print(json.dumps(found))"])
    assert [name for name, torch in in_a_fresh_process(code) if torch] == []


# --- the public names -----------------------------------------------------------------------------


def test_the_map_names_every_file_from_the_lowest_level_up():
    text = ast.get_docstring(ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8")))
    lines = [line.split() for line in text.splitlines() if line.startswith("    ")]
    named = [words[0] for words in lines]
    assert sorted(named) == sorted(set(FILES) - {"__init__"})
    levels = [LEVELS[name] for name in named]
    assert levels == sorted(levels)


def test_type_checkers_see_the_same_names_as_python():
    tree = ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8"))
    seen = {alias.asname: node.module for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == {name: f"crossenc_kit.{module}" for name, module in crossenc_kit.PUBLIC.items()}
    assert len(seen) > 50


@pytest.mark.parametrize("name", sorted(crossenc_kit.PUBLIC))
def test_every_public_name_is_there(name):
    value = getattr(crossenc_kit, name)
    assert value is getattr(getattr(crossenc_kit, crossenc_kit.PUBLIC[name]), name)
    assert name in dir(crossenc_kit)


def test_a_star_brings_the_public_names():
    names = {}
    exec("from crossenc_kit import *", names)
    assert names.keys() - {"__builtins__"} == crossenc_kit.PUBLIC.keys()


def test_files_are_attributes_and_other_names_are_not():
    assert crossenc_kit.metrics.__name__ == "crossenc_kit.metrics"
    assert "metrics" in dir(crossenc_kit)
    assert not hasattr(crossenc_kit, "nothing")
    with pytest.raises(AttributeError, match="'crossenc_kit' has no attribute 'nothing'"):
        crossenc_kit.nothing  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        exec("from crossenc_kit import nothing")
