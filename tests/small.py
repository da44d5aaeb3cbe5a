"""Small tables, rows and files that the tests of several rooms build."""

from __future__ import annotations

import json

import numpy as np

from crossenc_kit.data.pairs import Pairs


def jsonl(rows):
    """The text of a JSON Lines file."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def tsv(header, rows):
    """The text of a tab-separated file."""
    return "\n".join("\t".join(map(str, row)) for row in [header, *rows]) + "\n"


def write(path, content):
    """Write a text or bytes to a file, whose folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def table():
    """Four examples: groups of 1, 3, 1 and 2 pairs, labelled 0 to 6 in order."""
    left = ["a", "q", "q", "q", "b", "r", "r"]
    right = [f"d{i}" for i in range(7)]
    return Pairs(
        left, right, np.arange(7.0, dtype=np.float32), np.array([0, 1, 4, 5, 7]), {"id": list("wxyz")}, ("note",)
    )


def labelled(labels):
    """Pairs with the given labels."""
    texts = [f"text {row}" for row in range(len(labels))]
    return Pairs(texts, texts, np.asarray(labels))


def groups(pairs):
    """Each query with its documents and their labels, group by group."""
    labels = [None] * pairs.num_pairs if pairs.labels is None else pairs.labels.tolist()
    found = []
    for start, stop in zip(pairs.offsets[:-1], pairs.offsets[1:], strict=True):
        assert len(set(pairs.left[start:stop])) == 1
        found.append((pairs.left[start], dict(zip(pairs.right[start:stop], labels[start:stop], strict=True))))
    return found


# --- examples with classes, in the forms in which NLI data are published ----------------------------

NAMES = ("contradiction", "entailment", "neutral")
PUBLISHED = ("entailment", "neutral", "contradiction")  # 0, 1, 2 on the hub
TEXTS = [("A cat sleeps.", "It's a cat."), ('"Well, he left.', "n/a"), ("null", "one\u2028two\x85three"), ("NA", "nan")]
LABELS = ["entailment", "contradiction", "neutral", "-"]
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

# --- scored pairs, in the forms in which STS benchmarks are published -------------------------------

STS_ROWS = [
    {"sentence1": "A cat sleeps.", "sentence2": "A cat naps.", "score": 4.5},
    {"sentence1": '"Well, he left.', "sentence2": "NA", "score": 2.0},
    {"sentence1": "null", "sentence2": "one\u2028two\x85three", "score": 0.0},
]
# genre, filename, year, id, score, sentence1, sentence2, and sometimes the sources
STS_PUBLISHED = "".join(
    f"main-news\theadlines\t2015\t000{i}\t{row['score']:.3f}\t{row['sentence1']}\t{row['sentence2']}{more}\n"
    for i, (row, more) in enumerate(zip(STS_ROWS, ["", "\thttp://a\thttp://b", ""], strict=True))
)
STS_GLUE = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n" + "".join(
    f"{i}\tmain-news\theadlines\t2015\t000{i}\tnone\tnone\t{row['sentence1']}\t{row['sentence2']}\t{row['score']:.3f}\n"
    for i, row in enumerate(STS_ROWS)
)


# --- ten pairs with ids, and a model to score them with -------------------------------------------

WORDS = ["a", "cat", "sleeps", "on", "the", "mat", "and", "one", "dog", "runs"]
PAIRS = [(" ".join(WORDS[: 1 + row % 9]), " ".join(WORDS[row % 7 : row % 7 + 3])) for row in range(10)]
ROWS = [{"id": 100 + row, "left": left, "right": right} for row, (left, right) in enumerate(PAIRS)]


def write_lines(path, rows=ROWS):
    """Write rows as JSON Lines."""
    return write(path, jsonl(rows))


def saved_model(folder, **options):
    """The model of two layers, saved and loaded again, so that its head counts as trained."""
    from crossenc_kit import CrossEncoder

    CrossEncoder("tiny", seed=0, device="cpu", **options).save_pretrained(folder)
    return CrossEncoder(folder, device="cpu")


class Lengths:
    """A scorer by the texts' lengths that remembers what it was asked."""

    def __init__(self, factor=1.0, columns=0):
        self.asked, self.factor, self.columns = [], factor, columns

    def __call__(self, pairs, add=0.0):
        self.asked += pairs
        scores = np.array([self.factor * len(left) + len(right) / 7 + add for left, right in pairs])
        return np.stack([scores] * self.columns, axis=1) if self.columns else scores


def bits(folder):
    """The shards in a folder, by name."""
    return {path.name: path.read_bytes() for path in folder.glob("*.parquet")}
