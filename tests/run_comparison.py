"""What runs are compared by, and the one thread on which they have the same bits everywhere."""

from __future__ import annotations

from contextlib import contextmanager

import torch


@contextmanager
def on_one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def largest_difference(first, second):
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)
