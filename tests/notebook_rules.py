"""The rules that every notebook of the series keeps.

A rule takes a notebook as nbformat reads it, the names of all notebooks and its own, and yields what is wrong with it;
there are no exceptions by name.
"""

import ast
import importlib
import re
from pathlib import Path

import nbformat

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
