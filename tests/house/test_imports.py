"""Importing is cheap: nothing heavy is loaded before somebody uses it."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import crossenc_kit

PACKAGE = Path(crossenc_kit.__file__).parent

# These packages take a tenth of a second or more to import, so they are imported inside the functions that use them.
HEAVY = {"transformers", "datasets", "accelerate", "tokenizers", "huggingface_hub", "peft", "sentence_transformers"}
HEAVY |= {"pandas", "pyarrow", "scipy", "sklearn", "matplotlib", "onnx", "onnxruntime", "onnxscript", "bm25s"}
HEAVY |= {"IPython", "ipywidgets", "papermill", "nbformat", "jupyter_client"}

# Files of tensor code may import torch at their top, and stand in these rooms only. All the others (readers,
# evaluators, figures, the lab) can be imported in a process without torch.
TORCH_ROOMS = {"losses", "models", "training", "distillation"}
SECONDS = 0.1  # CPU seconds for `import crossenc_kit`


def in_a_fresh_process(code):
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    command = [sys.executable, "-c", code]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)


def loaded_by(files):
    """Import files one after another in a fresh process; return {file: heavy packages that came with it}."""
    modules = [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in files]
    code = f"""
import importlib, json, sys
found, known = {{}}, set()
for name in {modules!r}:
    importlib.import_module(name)
    new = ({HEAVY | {"torch"}!r} & set(sys.modules)) - known
    known |= new
    if new:
        found[name] = sorted(new)
print(json.dumps(found))
"""
    return in_a_fresh_process(code)


def test_importing_the_package_takes_milliseconds_and_loads_nothing_heavy():
    code = """
import json, resource, sys
def cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
start = cpu()
import crossenc_kit
print(json.dumps([cpu() - start, sorted({name.split(".")[0] for name in sys.modules})]))
"""
    seconds, modules = in_a_fresh_process(code)
    assert (HEAVY | {"torch", "numpy"}) & set(modules) == set()
    assert seconds < SECONDS


def test_no_file_of_the_other_rooms_loads_torch_or_a_heavy_package(package_files):
    others = [path for path in package_files if not TORCH_ROOMS & set(path.relative_to(PACKAGE).parts)]
    assert len(others) > 40
    assert loaded_by(others) == {}


def imported_at_the_top(tree):
    """Yield the packages that importing a file imports, whatever `if` or `try` they stand in."""
    waiting = list(tree.body)
    for node in waiting:
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0]
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
        elif isinstance(node, (ast.If, ast.Try, ast.With, ast.ClassDef)):
            waiting += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]


def test_heavy_packages_are_imported_inside_functions(package_files, tree_of):
    found = {str(path): HEAVY & set(imported_at_the_top(tree_of(path))) for path in package_files}
    assert {path: heavy for path, heavy in found.items() if heavy} == {}


def test_an_import_at_the_top_is_seen():
    for line in ("import scipy.stats", "from scipy import stats", "try:\n    import scipy\nexcept ImportError: pass"):
        assert list(imported_at_the_top(ast.parse(line))) == ["scipy"], line
    for line in ("def f():\n    import scipy", "if TYPE_CHECKING:\n    import scipy", "from . import scipy"):
        assert list(imported_at_the_top(ast.parse(line))) == [], line
