"""The README is right: its code runs, and the files, notebooks, pictures and names it points to exist."""

import importlib
import re
from functools import reduce
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "data/README.md", "data/results/README.md")]
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)

# The real model and the whole sample data take minutes.
SMALL = {'"minilm"': '"tiny"', "epochs=3": "epochs=1", "read_sts(split=split)": "read_sts(split=split)[:48]"}


def test_it_is_short_and_has_an_example():
    assert len(README.splitlines()) <= 125
    assert len(BLOCKS) >= 1
    assert sum(line.startswith("python3 -m venv") for line in README.splitlines()) == 2  # what .ci/run takes from it


@pytest.mark.filterwarnings("ignore")
def test_its_blocks_run_one_after_another(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a block may use the model that one before it saved
    for block in BLOCKS:
        assert all(word in block for word in SMALL)
        exec(reduce(lambda code, change: code.replace(*change), SMALL.items(), block), {})
        assert (tmp_path / "my-model" / "model.safetensors").is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere_and_pictures_have_a_text(page):
    text = page.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text) if not link.startswith("https://")]
    links += re.findall(r'<img src="([^"]+)"', text)
    assert [link for link in links if not (page.parent / link).exists()] == []
    assert re.findall(r"!\[\]|<img (?![^>]*alt=\"[^\"]{20})", text) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_and_notebooks_it_names_are_there(page):
    text = page.read_text(encoding="utf-8")
    files = re.findall(r"`((?:crossenc_kit|tests|data)/[\w./-]+)`", text)
    notebooks = [f"notebooks/{name}.ipynb" for name in re.findall(r"`(\d\d_\w+)`", text)]
    assert [name for name in [*files, *notebooks] if not (ROOT / name).exists()] == []


def test_public_names_in_its_table_exist(rooms):
    modules = [importlib.import_module(f"crossenc_kit.{room}".rstrip(".")) for room in ["", *rooms]]
    rows = "\n".join(line for line in README.splitlines() if line.startswith("|"))
    names = set(re.findall(r"`([A-Za-z]\w+)(?:\([^`]*\))?`", rows))
    assert len(names) > 20
    assert sorted(name for name in names if not any(name in module.__all__ for module in modules)) == []


def test_the_reason_for_every_dependency_is_given():
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    names = {re.match(r"[\w.-]+", line)[0] for lines in lists for line in lines} - {"crossenc_kit"}
    table = (ROOT / "data" / "README.md").read_text(encoding="utf-8").split("## Why each dependency is there")[1]
    told = set(
        re.findall(r"[\w.-]+", "".join(line.split("|")[1] for line in table.splitlines() if line.startswith("|")))
    )
    assert sorted(names - told) == []
