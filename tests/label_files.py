"""Examples with classes, in the forms in which NLI data are published, and as files."""

from __future__ import annotations

import json

NAMES = ("contradiction", "entailment", "neutral")
PUBLISHED = ("entailment", "neutral", "contradiction")  # 0, 1, 2 on the hub
TEXTS = [("A cat sleeps.", "It's a cat."), ('"Well, he left.', "n/a"), ("null", "one\u2028two\x85three"), ("NA", "nan")]
LABELS = ["entailment", "contradiction", "neutral", "-"]


def jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def tsv(header, rows):
    return "\n".join("\t".join(map(str, row)) for row in [header, *rows]) + "\n"


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


EXAMPLES = [(left, right, label) for (left, right), label in zip(TEXTS, LABELS, strict=True)]
TREES = ["sentence1_binary_parse", "sentence2_binary_parse", "sentence1_parse", "sentence2_parse"]
SNLI_TXT = tsv(
    ["gold_label", *TREES, "sentence1", "sentence2", "captionID", "pairID", *(f"label{i}" for i in range(1, 6))],
    [[label, *["( x )"] * 4, left, right, "1", "1r1e", label, *[""] * 4] for left, right, label in EXAMPLES],
)
GLUE_MNLI = tsv(
    ["index", "promptID", "pairID", "genre", *TREES, "sentence1", "sentence2", "label1", "gold_label"],
    [
        [i, 1, "1e", "fiction", *["( x )"] * 4, left, right, "-", label]
        for i, (left, right, label) in enumerate(EXAMPLES)
    ],
)
OWN_ROWS = [{"premise": left, "hypothesis": right, "label": label} for left, right, label in EXAMPLES]
OWN = jsonl(OWN_ROWS)
