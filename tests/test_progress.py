"""The line that says how far a job is."""

import io

import pytest

from crossenc_kit import jobs
from crossenc_kit.jobs import Progress, duration, rate_text


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(jobs.time, "monotonic", lambda: now[0])
    return now


def test_a_log_gets_a_line_now_and_then(clock):
    stream = io.StringIO()
    bar = Progress(2000, done=1000, name="process 1: ", stream=stream)
    for _ in range(9):
        clock[0] += 10
        bar.advance(100)
    bar.close()
    assert stream.getvalue().splitlines() == [
        "process 1: 1,200 of 2,000 pairs scored (60.0%), 10 pairs/s, 1:20 left",
        "process 1: 1,400 of 2,000 pairs scored (70.0%), 10 pairs/s, 1:00 left",
        "process 1: 1,600 of 2,000 pairs scored (80.0%), 10 pairs/s, 0:40 left",
        "process 1: 1,800 of 2,000 pairs scored (90.0%), 10 pairs/s, 0:20 left",
    ]


def test_a_terminal_has_one_line_that_changes(clock):
    stream = Terminal()
    bar = Progress(3000, stream=stream)
    for seconds, count in ((1, 1000), (0.1, 1000), (1, 1000)):
        clock[0] += seconds
        bar.advance(count)
    bar.close()
    first, second = stream.getvalue().removeprefix("\r").split("\r")
    assert first == "1,000 of 3,000 pairs scored (33.3%), 1,000 pairs/s, 0:02 left"
    assert second.rstrip() == "3,000 of 3,000 pairs scored (100.0%), 1,429 pairs/s"
    assert len(second.rstrip("\n")) == len(first)  # nothing of the longer line is left
    assert second.endswith("\n")


def test_nothing_is_said_where_it_is_not_wanted_or_is_over_at_once(clock):
    for shown, seconds in ((False, 100), (True, 0.1)):
        stream = Terminal()
        bar = Progress(10, stream=stream, shown=shown)
        clock[0] += seconds
        bar.advance(10)
        bar.close()
        assert stream.getvalue() == ""


def test_numbers_in_words():
    assert [duration(seconds) for seconds in (7, 725, 11261)] == ["0:07", "12:05", "3:07:41"]
    assert [rate_text(rate) for rate in (12345.6, 10, 0.25)] == ["12,346 pairs/s", "10 pairs/s", "0.25 pairs/s"]
