"""What the tests of bulk scoring score, and with what: models of one score and of three, loaded once a file."""

import pytest
from small import saved_model, write_lines

from crossenc_kit.inference.bulk import BlockScorer


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return saved_model(tmp_path_factory.mktemp("model") / "one", num_labels=1)


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    return saved_model(tmp_path_factory.mktemp("model") / "three", label_names=("no", "perhaps", "yes"))


@pytest.fixture
def pairs(tmp_path):
    return write_lines(tmp_path / "pairs.jsonl")


@pytest.fixture
def scored(monkeypatch):
    """The texts of every block that was scored, in order."""
    blocks = []
    score = BlockScorer.score

    def counted(self, texts, *place):
        blocks.append(texts)
        return score(self, texts, *place)

    monkeypatch.setattr(BlockScorer, "score", counted)
    return blocks
