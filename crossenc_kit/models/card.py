"""The model card: what a saved model was trained on, what it reached, and how to use it."""

from __future__ import annotations

import os
import re
from typing import Any

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
FOLDERS = re.compile(r"(?<![\w.:/\\])(?:[A-Za-z]:|~)?[/\\](?:[^\s/\\'\"]+[/\\])+")  # of an absolute path; not of a URL
EXPORTED = {
    "int8": "Exported in int8, for crossenc_kit on a CPU; `export.json` tells the drift from the float32 model.",
    "onnx": "Exported to ONNX, `onnx/model.onnx`: onnxruntime runs it, here and in other programs.",
    "onnx-int8": "Exported to ONNX in int8, `onnx/model_int8.onnx`; `export.json` tells its drift from float32.",
}


def model_card(card: dict[str, Any], num_labels: int, max_length: int) -> str:
    """A Hugging Face README in Markdown from a run's facts; every text that comes from data is escaped.

    Of an absolute path only the last part is told: the folders of one machine mean nothing on another.
    `card` keys, all optional: `base_model`, `layers` (those that a student kept, from 0), `data` (name to facts),
    `settings`, `metrics`, `command`, `label_names` (of 0, 1, ...), `adapter` (True for one of PEFT), `provenance`,
    `limits` (a list of sentences), `backend` (of an export).
    """
    lines = [*_front_matter(card), "", "# Cross-encoder", "", _summary(card, num_labels, max_length), ""]
    if card.get("label_names"):
        lines += ["Labels: " + ", ".join(f"{i} {escape(name)}" for i, name in enumerate(card["label_names"])) + ".", ""]
    lines += ["## Use", ""]
    lines += ["```python", "from crossenc_kit import CrossEncoder", "", 'model = CrossEncoder("path/to/this/folder")']
    lines += ['scores = model.predict([("a text", "another text")])', "```", ""]
    plain = "It also loads as `AutoModelForSequenceClassification` and in sentence-transformers' `CrossEncoder`."
    adapter = "An adapter (PEFT): it fetches its base model when it is loaded, and needs `pip install peft`."
    lines += [adapter if card.get("adapter") else EXPORTED.get(card.get("backend", ""), plain), ""]
    for title, key in (("Training data", "data"), ("Settings", "settings"), ("Results", "metrics")):
        lines += _table(title, card.get(key))
    if card.get("command"):
        lines += ["## Made by", "", "```", without_folders(card["command"]).replace("```", "'''"), "```", ""]
    limits = card.get("limits") or [
        "It was measured on the data named above and on nothing else.",
        f"Pairs longer than {max_length} tokens are cut at the end.",
        "Scores order pairs; they are not calibrated probabilities unless the results above say so.",
    ]
    lines += ["## Limits", "", *(f"- {escape(without_folders(limit))}" for limit in limits), ""]
    lines += _table("Versions", (card.get("provenance") or {}).get("versions"))
    return "\n".join(lines).rstrip() + "\n"


def _front_matter(card: dict[str, Any]) -> list[str]:
    base = str(card.get("base_model", ""))  # a folder of this machine is not named
    library = "peft" if card.get("adapter") else "transformers"
    lines = ["---", f"library_name: {library}", "pipeline_tag: text-classification", "tags:", "- cross-encoder"]
    if HUB_NAME.fullmatch(base) and not base.startswith(".") and not os.path.isdir(base):
        lines.append(f"base_model: {base}")
    return [*lines, "---"]


def _summary(card: dict[str, Any], num_labels: int, max_length: int) -> str:
    what = "one score" if num_labels == 1 else f"{num_labels} scores"
    base = re.split(r"[/\\]", str(card.get("base_model") or "an unnamed model").rstrip("/\\"))[-1]
    reads = f"Reads two texts together and gives the pair {what}."
    layers = ", ".join(map(str, card.get("layers") or ()))
    base += f", of its encoder the layers {layers} (the lowest is 0)" if layers else ""
    return f"{reads} Base model: {escape(base)}. Longest input: {max_length} tokens."


def _table(title: str, facts: Any) -> list[str]:
    if not facts:
        return []
    rows = [f"| {escape(name)} | {escape(_short(value))} |" for name, value in facts.items()]
    return [f"## {title}", "", "| | |", "| --- | --- |", *rows, ""]


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_short(item)}" for key, item in value.items())
    return without_folders(value)


def without_folders(text: Any) -> str:
    """The text with absolute paths cut to their last part."""
    return FOLDERS.sub("", str(text))


def escape(text: Any) -> str:
    """Text that is safe inside Markdown: no tags, links, tables or line breaks of its own."""
    plain = " ".join(str(text).split())
    for character, entity in (
        ("&", "&amp;"),
        ("<", "&lt;"),
        (">", "&gt;"),
        ("|", "&#124;"),
        ("[", "&#91;"),
        ("`", "&#96;"),
        ("://", "&#58;//"),
        ("www.", "www&#46;"),
    ):
        plain = plain.replace(character, entity)
    return plain
