"""The code of the README runs as it stands, with the small model in place of the real one."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_there_is_code():
    assert len(BLOCKS) >= 2


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_a_block_runs(number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(BLOCKS[number].replace('"minilm"', '"tiny"'), {})
    assert (tmp_path / "my-model" / "model.safetensors").is_file()


def test_the_files_it_names_are_there():
    root = Path(__file__).resolve().parent.parent
    names = re.findall(r"`((?:crossenc_kit|tests|data)/[\w./-]+)`", README)
    assert names
    assert [name for name in names if not (root / name).exists()] == []
