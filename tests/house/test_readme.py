"""The code of the README runs as it stands, with the small model in place of the real one."""

import re
from functools import reduce
from pathlib import Path

import pytest

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)

# The small model has two layers, and after so few steps its scores are all but equal: what int8 moves is much of that.
SMALL = {'"minilm"': '"tiny"', "layers=3": "layers=1", '"int8", pairs=pairs': '"int8", pairs=pairs, allow_drift=True'}


def test_there_is_code():
    assert len(BLOCKS) >= 2


@pytest.mark.filterwarnings("ignore")
def test_the_blocks_run_one_after_another(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a block may use the model that one before it saved
    for block in BLOCKS:
        exec(reduce(lambda code, change: code.replace(*change), SMALL.items(), block), {})
        assert (tmp_path / "my-model" / "model.safetensors").is_file()
    assert (tmp_path / "my-student" / "model_int8.safetensors").is_file()


def test_the_files_it_names_are_there():
    root = Path(__file__).resolve().parents[2]
    names = re.findall(r"`((?:crossenc_kit|tests|data)/[\w./-]+)`", README)
    assert names
    assert [name for name in names if not (root / name).exists()] == []
