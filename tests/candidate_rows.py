"""Rows of queries and candidates, and the groups they become."""

from __future__ import annotations

QUERIES = {"1": "why", "2": "how"}
DOCUMENTS = {"10": "because", "11": "so", "12": "NA"}
MS_MARCO = [
    {
        "answers": ["yes"],
        "passages": {"is_selected": [0, 1, 0], "passage_text": ["a", "b", "c"], "url": ["u", "v", "w"]},
        "query": "q one",
        "query_id": 1185869,
        "query_type": "DESCRIPTION",
        "wellFormedAnswers": [],
    },
    {
        "answers": ["No Answer Present."],
        "passages": {"is_selected": [0, 0], "passage_text": ["d", "e"], "url": ["x", "y"]},
        "query": "q two",
        "query_id": 2,
        "query_type": "NUMERIC",
        "wellFormedAnswers": [],
    },
    {
        "answers": ["7"],
        "passages": {"is_selected": [1], "passage_text": ["f"], "url": ["z"]},
        "query": "q three",
        "query_id": 3,
        "query_type": "NUMERIC",
        "wellFormedAnswers": [],
    },
]


def groups(pairs):
    labels = [None] * pairs.num_pairs if pairs.labels is None else pairs.labels.tolist()
    found = []
    for start, stop in zip(pairs.offsets[:-1], pairs.offsets[1:], strict=True):
        assert len(set(pairs.left[start:stop])) == 1
        found.append((pairs.left[start], dict(zip(pairs.right[start:stop], labels[start:stop], strict=True))))
    return found
