"""Every notebook has the anatomy of the series.

A rule takes a notebook as nbformat reads it, the names of all notebooks and its own, and yields what is wrong with
it. No notebook is excepted by name, and the last part of this file shows that every rule can fail.
"""

import ast
import copy
import importlib
import re
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))
LONGEST_CELL = 12  # lines; 2 to 8 is the aim
PARAMETER_LINE = re.compile(r"^[a-z]\w*(: [\w |]+)? = (?P<value>.+?)  # (?P<comment>[^=]+)$")
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:root|home/\w+|Users/\w+|tmp|work|farm|mnt|usr|opt)/[\w.]")
OPENING = {
    "what the reader will learn": r"you will learn|what you.ll learn",
    "what is needed": r"you need|what you.ll need",
    "the time on a CPU": r"\d[^\n]*\bCPU\b|\bCPU\b[^\n]*\d",
    "the time on a GPU": r"\bGPU\b",
}
CLOSING = {"a summary": r"^#+ .*summary", "papers": r"^#+ .*(papers|reading)", "questions": r"^#+ .*questions"}


def tagged(notebook, tag):
    return [i for i, cell in enumerate(notebook.cells) if tag in cell.metadata.get("tags", [])]


def code_cells(notebook):
    return [(i, cell) for i, cell in enumerate(notebook.cells) if cell.cell_type == "code"]


def markdown(cells):
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def exercises(notebook):
    """The cells of every exercise, from its heading to the next one."""
    starts = [i for i, c in enumerate(notebook.cells) if c.cell_type == "markdown" and re.match(r"#", c.source)]
    for start, stop in zip(starts, [*starts[1:], len(notebook.cells)], strict=True):
        if re.match(r"#+ exercise \d+", notebook.cells[start].source, re.IGNORECASE):
            yield notebook.cells[start:stop]


def title_and_promise(notebook, names, name):
    first = notebook.cells[0]
    lines = first.source.splitlines() if first.cell_type == "markdown" else [""]
    if not re.match(r"# \w", lines[0]):
        yield "the first cell does not begin with a title, `# ...`"
    if not [line for line in lines[1:] if len(line.split()) >= 6]:
        yield "the first cell has no promise under its title, a sentence that says what the reader will have done"
    if len(re.findall(r"^# ", markdown(notebook.cells), re.MULTILINE)) > 1:
        yield "there is more than one title; sections begin with `##`"


def opening(notebook, names, name):
    cells = notebook.cells[: min(tagged(notebook, "parameters"), default=0)]
    text = markdown(cells)
    if len(cells) != sum(cell.cell_type == "markdown" for cell in cells):
        yield "there is code before the parameters cell"
    for what, pattern in OPENING.items():
        if not re.search(pattern, text, re.IGNORECASE):
            yield f"before the parameters cell it does not say {what} ({pattern})"
    before = names[names.index(name) - 1] if names.index(name) else None
    if before and not (f"{before}.ipynb" in text and re.search(r"\b(chang|differ|new)", text, re.IGNORECASE)):
        yield f"before the parameters cell it does not say what changes from {before}, with a link to it"


def parameters(notebook, names, name):
    found = tagged(notebook, "parameters")
    if len(found) != 1:
        yield f"there are {len(found)} cells tagged `parameters`, not one"
        return
    lines = notebook.cells[found[0]].source.splitlines()
    for line in lines:
        match = PARAMETER_LINE.match(line)
        if not match:
            yield f"parameters: {line!r} is not `name = literal  # what it is, its unit`, without another `=`"
            continue
        try:
            ast.literal_eval(match["value"])
        except (SyntaxError, ValueError):
            yield f"parameters: {match['value']!r} is not a literal"
    if not any(line.startswith('output_dir = "" ') for line in lines):
        yield 'parameters: there is no line `output_dir = ""  # folder for the record, empty writes none`'


def setup(notebook, names, name):
    found = tagged(notebook, "setup")
    start = min(tagged(notebook, "parameters"), default=len(notebook.cells))
    if found != [i for i, _ in code_cells(notebook) if i > start][:1] or not found:
        yield "the first code cell after the parameters is not the one tagged `setup`"
        return
    cell = notebook.cells[found[0]]
    if not re.search(r"start_run\(.*output_dir\)", cell.source, re.DOTALL):
        yield "setup: it does not call start_run(..., output_dir)"
    printed = "".join(output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in cell.outputs)
    if not (re.search(r"\d+\.\d+", printed) and re.search(r"cpu|gpu|cuda|nvidia", printed, re.IGNORECASE)):
        yield "setup: its output does not say the device and the versions"


def sections(notebook, names, name):
    if len(re.findall(r"^## ", markdown(notebook.cells), re.MULTILINE)) < 3:
        yield "there are fewer than three sections (`## ...`)"
    kinds = "".join(cell.cell_type[0] for cell in notebook.cells)
    if "ccc" in kinds:
        yield f"three code cells in a row, from cell {kinds.index('ccc')}; say between them what comes and what came"


def short_cells(notebook, names, name):
    for index, cell in code_cells(notebook):
        lines = [line for line in cell.source.splitlines() if line.strip()]
        if not lines:
            yield f"cell {index} is empty"
        if index in tagged(notebook, "setup"):  # a line of imports for each room
            lines = [line for line in lines if not re.match(r"(from [\w.]+ )?import ", line)]
        if len(lines) > LONGEST_CELL and index not in tagged(notebook, "parameters"):
            yield f"cell {index} has {len(lines)} lines; at most {LONGEST_CELL}, better 2 to 8"
        try:
            tree = ast.parse(cell.source)
        except SyntaxError as error:
            yield f"cell {index} is not plain Python: {error}"
            continue
        in_exercise = any(cell is other for exercise in exercises(notebook) for other in exercise)
        if not in_exercise and any(isinstance(node, (ast.FunctionDef, ast.ClassDef)) for node in ast.walk(tree)):
            yield f"cell {index} defines a function or a class; definitions belong in the package"


def three_exercises(notebook, names, name):
    found = list(exercises(notebook))
    if len(found) < 3:
        yield f"there are {len(found)} exercises (a cell with the heading `Exercise 1: ...`), not three"
    for number, cells in enumerate(found, 1):
        text, code = markdown(cells), "\n".join(cell.source for cell in cells if cell.cell_type == "code")
        if not re.search(r"\b(easy|medium|hard)\b", text, re.IGNORECASE):
            yield f"exercise {number} has no difficulty: easy, medium or hard"
        if not re.search(r"\b\d+ min", text):
            yield f"exercise {number} does not say how many minutes it takes"
        if not re.search(r"\bNone\b", code):
            yield f"exercise {number} has no `None` to replace"
        if not re.search(r"\bcheck\w*\(", code):
            yield f"exercise {number} has no check"
        if not re.search(r"<details>\s*<summary>.*solution.*</summary>.*</details>", text, re.IGNORECASE | re.DOTALL):
            yield f"exercise {number} has no solution folded in <details><summary>Solution</summary> ... </details>"


def closing(notebook, names, name):
    text = markdown(notebook.cells)
    for what, pattern in CLOSING.items():
        if not re.search(pattern, text, re.IGNORECASE | re.MULTILINE):
            yield f"there is no heading of {what}"
    after = re.split(CLOSING["questions"], text, flags=re.IGNORECASE | re.MULTILINE)[-1].split("\n#")[0]
    if len(re.findall(r"^\s*\d+\. ", after, re.MULTILINE)) != 5:
        yield "there are not five numbered questions under the heading of questions"
    last = notebook.cells[-1]
    if last.cell_type != "code" or ".finish(" not in last.source:
        yield "the last cell does not write the record with `.finish(metrics)`"


def links(notebook, names, name):
    text, here = markdown(notebook.cells[-8:]), names.index(name)
    for word, index in (("previous", here - 1), ("next", here + 1)):
        if 0 <= index < len(names) and not re.search(rf"{word}[^\n]*\]\({names[index]}\.ipynb\)", text, re.IGNORECASE):
            yield f"near its end there is no link `{word}: [...]({names[index]}.ipynb)`"
    for target in re.findall(r"\]\(([\w./-]+?\.ipynb)", markdown(notebook.cells)):
        if Path(target).stem not in names:
            yield f"the link to {target} leads nowhere"


def clean_outputs(notebook, names, name):
    counts = [cell.execution_count for _, cell in code_cells(notebook)]
    if counts != list(range(1, len(counts) + 1)):
        yield f"the execution counts are {counts}: run it once, from top to bottom, and save"
    if "widgets" in notebook.metadata:
        yield "the metadata hold the state of widgets; clear it"
    for index, cell in code_cells(notebook):
        for output in cell.outputs:
            if output.get("name") == "stderr":
                yield f"cell {index} printed to stderr: {output.text[:80]!r}"
            if output.output_type == "error":
                yield f"cell {index} ended with {output.ename}"
            if "application/vnd.jupyter.widget-view+json" in output.get("data", {}):
                yield f"cell {index} shows a widget, which is nothing without its state"
    for index, cell in enumerate(notebook.cells):
        if found := MACHINE_PATH.search(nbformat.v4.writes(nbformat.v4.new_notebook(cells=[cell]))):
            yield f"cell {index} or its output holds a path of one machine: {found[0]}"


def live_parameters(notebook, names, name):
    """Every parameter is read by a later cell; passing it to `start_run` does not count, but for output_dir."""
    found = tagged(notebook, "parameters")
    if not found:
        return
    assigned = [node for node in ast.parse(notebook.cells[found[0]].source).body if hasattr(node, "value")]
    wanted = {ast.unparse(node).split("=")[0].split(":")[0].strip() for node in assigned}
    used = set()
    for _, cell in [pair for pair in code_cells(notebook) if pair[0] > found[0]]:
        tree = ast.parse(cell.source)
        calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func).endswith("start_run")]
        kept = {id(n) for call in calls for n in ast.walk(call) if isinstance(n, ast.Name) and n.id != "output_dir"}
        used |= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and id(n) not in kept}
    for parameter in sorted(wanted - used):
        yield f"the parameter {parameter!r} is used by no later cell"


def code_to_read(notebook):
    """Yield every piece of Python: the code cells, and what is fenced in Markdown, such as solutions."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            yield cell.source
        else:
            yield from re.findall(r"^```python\n(.*?)^```", cell.source, re.MULTILINE | re.DOTALL)


def imports_through_doors(notebook, names, name):
    """Names come from the kit's root, from the door of a room or from a file on top, and they exist."""
    found = [node for code in code_to_read(notebook) if is_python(code) for node in ast.walk(ast.parse(code))]
    for node in found:
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "crossenc_kit":
            for alias in node.names:
                if node.module.count(".") > 1 or not resolves(node.module, alias.name):
                    yield f"`from {node.module} import {alias.name}` names nothing that a door shows"
        elif isinstance(node, ast.Import) and any(alias.name.startswith("crossenc_kit") for alias in node.names):
            yield f"`{ast.unparse(node)}`: write `from crossenc_kit import ...`"


def is_python(code):
    try:
        ast.parse(code)
    except SyntaxError:  # `short_cells` tells it
        return False
    return True


def resolves(module, name):
    try:
        return hasattr(importlib.import_module(module), name)
    except ImportError:
        return False


RULES = [
    *[title_and_promise, opening, parameters, setup, sections, short_cells, three_exercises],
    *[closing, links, clean_outputs, live_parameters, imports_through_doors],
]


# --- the notebooks of the series ------------------------------------------------------------------


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
