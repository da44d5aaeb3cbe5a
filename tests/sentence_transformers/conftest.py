"""What the tests of `fit` train: 12 examples, a loader over them in batches of four, and a model that never learned."""

import pytest
from small_peer import SCORED, fresh
from torch.utils.data import DataLoader

from crossenc_kit import InputExample


@pytest.fixture
def samples():
    return [InputExample(texts=[left, right], label=label) for left, right, label in 3 * SCORED]  # 12


@pytest.fixture
def loader(samples):
    return DataLoader(samples, shuffle=True, batch_size=4)


@pytest.fixture
def model():
    return fresh()
