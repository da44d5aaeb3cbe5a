"""Every notebook has the anatomy of the series, and every parameter of it is alive.

A notebook's own metadata `crossenc_kit.test_parameters` holds another value for
each of its parameters, small enough for a run of seconds.
"""

import copy
import math
from pathlib import Path

import nbformat
import pytest
from notebook_rules import RULES, code_cells, short_cells

from crossenc_kit.errors import RunError
from crossenc_kit.lab.experiments import read_parameters, run_notebook, typed_parameters
from crossenc_kit.lab.records import flat

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))


def test_the_first_notebook_has_a_map_that_links_all_others():
    first, *others = NOTEBOOKS
    cells = nbformat.read(first, as_version=4).cells
    (found,) = [cell.source for cell in cells if "## The map of the series" in cell.source]
    rows = [row for row in found.splitlines() if row.startswith("| [")]
    assert [row.split("|")[1].strip() for row in rows] == [f"[{path.stem}]({path.name})" for path in others]
    assert "planned" not in found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_anatomy(path, rule):
    notebook = nbformat.read(path, as_version=4)
    assert list(rule(notebook, [other.stem for other in NOTEBOOKS], path.stem)) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_test_parameters_change_every_parameter(path):
    changed = nbformat.read(path, as_version=4).metadata.get("crossenc_kit", {}).get("test_parameters", {})
    defaults = {name: value for name, value in read_parameters(path).items() if name != "output_dir"}
    try:
        typed = typed_parameters(path, changed)
    except RunError as error:
        pytest.fail(str(error))
    assert sorted(name for name, default in defaults.items() if typed.get(name, default) == default) == []


@pytest.mark.enable_socket
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_run_with_changed_parameters_finishes_with_metrics(path, tmp_path, monkeypatch):
    monkeypatch.chdir(path.parent)  # "../data" is the sample data, whatever folder the tests were started in
    changed = nbformat.read(path, as_version=4).metadata["crossenc_kit"]["test_parameters"]
    record = run_notebook(path, changed, output_dir=tmp_path, name="run", progress=False, cell_timeout=300)
    assert record["status"] == "finished", record["error"]
    numbers = flat(record["metrics"])
    assert numbers
    assert [name for name, value in numbers.items() if not math.isfinite(value)] == []
    assert {name: record["parameters"][name] for name in changed} == changed


# --- every rule can fail --------------------------------------------------------------------------


def an_exercise(number):
    heading = nbformat.v4.new_markdown_cell(f"### Exercise {number}: count\n\n*easy, 3 minutes.* Count the pairs.")
    attempt = nbformat.v4.new_code_cell("answer = None\ncheck(answer, 5)")
    solution = "<details><summary>Solution</summary>\n\n`answer = 5`\n\n</details>"
    return [heading, attempt, nbformat.v4.new_markdown_cell(solution)]


@pytest.fixture
def good():
    """A notebook that keeps every rule, second of three."""
    text, code = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell
    lines = 'seed = 1  # random seed\nepochs = 2  # passes\noutput_dir = ""  # folder for the record'
    printed = nbformat.v4.new_output("stream", name="stdout", text="cpu, 2 threads; torch 2.13.0")
    questions = "## Five questions\n\n" + "\n".join(f"{n}. Why?" for n in range(1, 6))
    notebook = nbformat.v4.new_notebook(
        cells=[
            text("# 02 Regression\n\nAt the end you have trained a model that grades pairs."),
            text("**You will learn** much. **You need** little. **Time**: 1 minute on a CPU, seconds on a GPU."),
            text("**What changes** since [01](01_a.ipynb): the loss."),
            code(lines, metadata={"tags": ["parameters"]}),
            code('record = start_run("02", globals(), output_dir)', metadata={"tags": ["setup"]}, outputs=[printed]),
            text("## Train"),
            code("total = epochs * seed\nprint(total)"),
            text("## Exercises"),
            *[cell for number in (1, 2, 3) for cell in an_exercise(number)],
            text("## Summary\n\nIt works.\n\n" + questions),
            text("## Papers\n\nOne.\n\nPrevious: [01](01_a.ipynb), next: [03](03_c.ipynb)"),
            code('record.finish({"total": total});'),
        ]
    )
    for count, (_, cell) in enumerate(code_cells(notebook), 1):
        cell.execution_count = count
    return notebook


NAMES = ["01_a", "02_b", "03_c"]


def complaints(notebook):
    return {rule.__name__: found for rule in RULES if (found := list(rule(notebook, NAMES, "02_b")))}


def test_a_good_notebook_keeps_every_rule(good):
    assert complaints(good) == {}


@pytest.mark.parametrize(
    ("rule", "cell", "old", "new"),
    [
        ("title_and_promise", 0, "# 02", "02"),
        ("title_and_promise", 0, "At the end you have trained a", "A"),
        ("title_and_promise", 5, "## Train", "# Train"),
        ("opening", 1, "You will learn", "You see"),
        ("opening", 1, "You need", "Have"),
        ("opening", 1, "1 minute on a CPU", "short"),
        ("opening", 1, "a GPU", "others"),
        ("opening", 2, "01_a.ipynb", "03_c.ipynb"),
        ("opening", 2, "changes", "is here"),
        ("parameters", 3, "# passes", ""),
        ("parameters", 3, "# passes", "# passes, 1 = one"),
        ("parameters", 3, "epochs = 2", "epochs = int(2)"),
        ("parameters", 3, 'output_dir = ""', 'output_dir = "runs"'),
        ("setup", 4, 'start_run("02", globals(), output_dir)', "output_dir"),
        ("short_cells", 6, "print(total)", "print(total)\n" * 12),
        ("short_cells", 6, "print(total)", "def f():\n    return 1"),
        ("short_cells", 6, "print(total)", "%time print(total)"),
        ("three_exercises", 8, "Exercise 1", "Task"),
        ("three_exercises", 8, "easy", "simple"),
        ("three_exercises", 8, "3 minutes", "some minutes"),
        ("three_exercises", 9, "None", "4"),
        ("three_exercises", 9, "check", "print"),
        ("three_exercises", 10, "<details>", ""),
        ("closing", 17, "## Summary", "## End"),
        ("closing", 17, "5. Why?", ""),
        ("closing", 18, "## Papers", "## More"),
        ("closing", 19, "record.finish", "print"),
        ("links", 18, "03_c", "01_a"),
        ("links", 18, "Previous: ", ""),
        ("links", 0, "model", "[model](09_z.ipynb)"),
        ("clean_outputs", 6, "print(total)", "open('/" + "home/ann/x')"),
        ("live_parameters", 6, "epochs * seed", "epochs"),
        ("imports_through_doors", 6, "print(total)", "from crossenc_kit.retrieval.bm25 import terms"),
        ("imports_through_doors", 6, "print(total)", "from crossenc_kit import nothing"),
        ("imports_through_doors", 6, "print(total)", "import crossenc_kit.data"),
        ("imports_through_doors", 10, "`answer = 5`", "```python\nfrom crossenc_kit.bm25 import terms\n```"),
    ],
)
def test_a_rule_sees_a_notebook_that_breaks_it(good, rule, cell, old, new):
    assert old in good.cells[cell].source
    good.cells[cell].source = good.cells[cell].source.replace(old, new)
    if "%time" in new:  # the rule about plain Python sees it; the one that parses all code cannot go on
        assert list(short_cells(good, NAMES, "02_b"))
    else:
        assert list(complaints(good)) == [rule]


def test_outputs_that_are_not_clean_are_seen(good):
    def with_output(output):
        notebook = copy.deepcopy(good)
        notebook.cells[6].outputs = [output]
        return list(complaints(notebook))

    new = nbformat.v4.new_output
    assert with_output(new("stream", name="stderr", text="a warning")) == ["clean_outputs"]
    assert with_output(new("error", ename="ValueError", evalue="", traceback=[])) == ["clean_outputs"]
    assert with_output(new("stream", name="stdout", text="/" + "tmp/x")) == ["clean_outputs"]
    assert with_output(new("display_data", {"application/vnd.jupyter.widget-view+json": {}})) == ["clean_outputs"]
    assert with_output(new("stream", name="stdout", text="fine")) == []
    good.cells[6].execution_count = None
    assert list(complaints(good)) == ["clean_outputs"]
    good.cells[6].execution_count = 3
    good.metadata["widgets"] = {}
    assert list(complaints(good)) == ["clean_outputs"]


def test_what_is_missing_altogether_is_seen(good):
    without = copy.deepcopy(good)
    without.cells[3].metadata["tags"] = []
    assert {"parameters", "setup"} <= set(complaints(without))
    without = copy.deepcopy(good)
    without.cells[4].outputs = []
    assert list(complaints(without)) == ["setup"]
    without = copy.deepcopy(good)
    del without.cells[5]  # the heading between setup and training
    assert list(complaints(without)) == ["sections"]
