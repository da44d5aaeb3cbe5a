"""The model card: what a saved model was trained on, how well it did, and how to use it."""

from __future__ import annotations

import os
import re
from typing import Any

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
# The folders of an absolute path, but not those of a URL.
FOLDERS = re.compile(r"(?<![\w.:/\\])(?:[A-Za-z]:|~)?[/\\](?:[^\s/\\'\"]+[/\\])+")
PLAIN = "It also loads as `AutoModelForSequenceClassification` and in sentence-transformers' `CrossEncoder`."
ADAPTER = "An adapter (PEFT): it fetches its base model when it is loaded, and needs `pip install peft`."
EXPORTED = {
    "int8": "Exported in int8, for crossenc_kit on a CPU; `export.json` has the drift from float32.",
    "onnx": "Exported to ONNX, `onnx/model.onnx`; onnxruntime runs it here and in other programs.",
    "onnx-int8": "Exported to ONNX in int8, `onnx/model_int8.onnx`; `export.json` has the drift from float32.",
}
MARKDOWN = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;", "[": "&#91;", "`": "&#96;"}
MARKDOWN |= {"://": "&#58;//", "www.": "www&#46;"}


def model_card(card: dict[str, Any], num_labels: int, max_length: int) -> str:
    """Write a Hugging Face README in Markdown; escapes every text that comes from data.

    card: keys, all optional, are `base_model`, `layers` (those a student kept, from 0), `data`,
        `settings`, `metrics`, `command`, `label_names` (of 0, 1, ...), `adapter` (True for PEFT),
        `provenance`, `limits` (a list of sentences) and `backend` (of an export)

    Absolute paths keep only their last part: one machine's folders mean nothing on another.
    """
    lines = [*_front_matter(card), "", "# Cross-encoder", "", _summary(card, num_labels, max_length), ""]
    if card.get("label_names"):
        labels = ", ".join(f"{i} {escape(name)}" for i, name in enumerate(card["label_names"]))
        lines += [f"Labels: {labels}.", ""]
    lines += ["## Use", ""]
    lines += ["```python", "from crossenc_kit import CrossEncoder", ""]
    lines += ['model = CrossEncoder("path/to/this/folder")']
    lines += ['scores = model.predict([("a text", "another text")])', "```", ""]
    lines += [ADAPTER if card.get("adapter") else EXPORTED.get(card.get("backend", ""), PLAIN), ""]
    for title, key in (("Training data", "data"), ("Settings", "settings"), ("Results", "metrics")):
        lines += _table(title, card.get(key))
    if card.get("command"):
        command = without_folders(card["command"]).replace("```", "'''")
        lines += ["## Made by", "", "```", command, "```", ""]
    limits = card.get("limits") or [
        "It was measured on the data named above and on nothing else.",
        f"Pairs longer than {max_length} tokens are cut at the end.",
        "Scores order pairs; they are not calibrated probabilities unless the results above say so.",
    ]
    lines += ["## Limits", "", *(f"- {escape(without_folders(limit))}" for limit in limits), ""]
    lines += _table("Versions", (card.get("provenance") or {}).get("versions"))
    return "\n".join(lines).rstrip() + "\n"


def _front_matter(card: dict[str, Any]) -> list[str]:
    base = str(card.get("base_model", ""))  # named only if it is on the hub, not a folder here
    library = "peft" if card.get("adapter") else "transformers"
    lines = ["---", f"library_name: {library}", "pipeline_tag: text-classification"]
    lines += ["tags:", "- cross-encoder"]
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
    """Cut absolute paths in a text to their last part."""
    return FOLDERS.sub("", str(text))


def escape(text: Any) -> str:
    """Make a text safe inside Markdown: no tags, links, tables or line breaks of its own."""
    plain = " ".join(str(text).split())
    for character, entity in MARKDOWN.items():  # the ampersand first
        plain = plain.replace(character, entity)
    return plain
