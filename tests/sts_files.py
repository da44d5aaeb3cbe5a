"""Scored pairs in the forms in which STS benchmarks are published, and as files."""

from __future__ import annotations

ROWS = [
    {"sentence1": "A cat sleeps.", "sentence2": "A cat naps.", "score": 4.5},
    {"sentence1": '"Well, he left.', "sentence2": "NA", "score": 2.0},
    {"sentence1": "null", "sentence2": "one\u2028two\x85three", "score": 0.0},
]
# genre, filename, year, id, score, sentence1, sentence2, and sometimes the sources
PUBLISHED = "".join(
    f"main-news\theadlines\t2015\t000{i}\t{row['score']:.3f}\t{row['sentence1']}\t{row['sentence2']}{more}\n"
    for i, (row, more) in enumerate(zip(ROWS, ["", "\thttp://a\thttp://b", ""], strict=True))
)
GLUE = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n" + "".join(
    f"{i}\tmain-news\theadlines\t2015\t000{i}\tnone\tnone\t{row['sentence1']}\t{row['sentence2']}\t{row['score']:.3f}\n"
    for i, row in enumerate(ROWS)
)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path
