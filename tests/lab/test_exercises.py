"""Self-checks: known verdicts, solutions kept back, and no answer that makes a check raise."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossenc_kit.lab.exercises import CLOSE, NOT_TRIED, NOT_YET, RIGHT, check, check_function


@pytest.mark.parametrize(
    ("answer", "expected", "state", "said"),
    [
        (None, 3, NOT_TRIED, ""),
        (..., 3, NOT_TRIED, ""),
        (3, 3, RIGHT, ""),
        (3.0, 3, RIGHT, ""),
        (10001, 10000, CLOSE, "not 10001"),
        (2.7182, np.e, RIGHT, ""),
        (2.6, np.e, CLOSE, "not 2.6"),
        (5.0, np.e, NOT_YET, "not 5"),
        (-2.5, 2.5, NOT_YET, "sign"),
        (83.2, 0.832, NOT_YET, "percent"),
        (float("nan"), 1.0, NOT_YET, "nan"),
        (float("inf"), float("inf"), RIGHT, ""),
        (0.0005, 0.0, RIGHT, ""),
        (0.5, 0.0, NOT_YET, ""),
        ("3", 3, NOT_YET, "expected a single number, got str '3'"),
        ([1, 2], 3, NOT_YET, "got an array of shape (2,)"),
        (len, 3, NOT_YET, "call it"),
        ([1.0, 2.0], np.array([1, 2]), RIGHT, ""),
        ([1, 9], [1, 2], CLOSE, "1 of 2 values"),
        ([8, 9], [1, 2], NOT_YET, "0 of 2 values"),
        ([[1, 2, 3]], [[1], [2], [3]], NOT_YET, "transposed?"),
        ([[1, 2], [3]], [[1, 2], [3, 4]], NOT_YET, "expected an array of shape (2, 2)"),
        (True, True, RIGHT, ""),
        (False, True, NOT_YET, "not False"),
        ("  Cosine ", "cosine", RIGHT, ""),
        ("cosines", "cosine", CLOSE, ""),
        ("dot", "cosine", NOT_YET, "not 'dot'"),
        (7, "cosine", NOT_YET, "a text in quotes"),
        ([1, 2, 3], {1, 2, 3}, RIGHT, ""),
        ({1, 2}, {1, 2, 3}, CLOSE, "2 of your 2 belong, 1 are missing"),
        ({9}, {1, 2, 3}, NOT_YET, "0 of your 1"),
        ("abc", {"a", "b", "c"}, NOT_YET, "expected a set"),
        ({"a": 1}, {"a": 1.0}, RIGHT, ""),
        ({"a": 1, "b": 5}, {"a": 1, "b": 2}, CLOSE, "1 of 2"),
        ({"b": 1}, {"a": 1}, NOT_YET, "keys"),
        (["x", "y"], ["x", "y"], RIGHT, ""),
        (["x"], ["x", "y"], NOT_YET, "expected 2 items, got 1"),
        ("xy", ["x", "y"], NOT_YET, "expected a list"),
    ],
)
def test_known_verdicts(answer, expected, state, said):
    verdict = check(answer, expected)
    assert verdict.state == state
    assert said in verdict.message
    assert bool(verdict) is (state == RIGHT)
    assert check(answer, lambda: expected) == verdict


def test_tolerance_is_relative_to_the_largest_expected_value():
    assert check(103, 100, tolerance=0.05)
    assert not check(106, 100, tolerance=0.05)
    assert check([0.0004, 1.0], [0.0, 1.0])


def test_hints_come_with_wrong_answers_only():
    assert "look" in str(check(5, 3, hint="look"))
    assert "look" in str(check(3.1, 3, hint="look"))
    assert "look" not in str(check(3, 3, hint="look"))
    assert "look" not in str(check(None, 3, hint="look"))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [(1.0, 0.7310585), ("dot", "cosine"), ({"x"}, {"secret"}), ([1, 2], [42.125, 43]), ({"k": 1}, {"k": 0.7310585})],
)
def test_a_wrong_answer_is_not_told_the_solution(answer, expected):
    said = str(check(answer, expected))
    assert not re.search(r"0\.73|cosine|secret|42", said)


def test_tensors_are_numbers():
    torch = pytest.importorskip("torch")
    assert check(torch.tensor([1.0, 2.0], requires_grad=True), [1.0, 2.0])
    assert check(2.0, lambda: torch.tensor(2.0))


class Hostile:
    """An answer whose every method raises."""

    def __eq__(self, other):
        raise RuntimeError("no")

    def __repr__(self):
        raise RuntimeError("no")

    def __array__(self, *args, **kwargs):
        raise RuntimeError("no")

    def __hash__(self):
        raise RuntimeError("no")


@pytest.mark.parametrize("expected", [1, 1.5, "a", {1}, {"a": 1}, ["a", 1], [1, 2], True, object(), None])
def test_hostile_answers_do_not_raise(expected):
    for answer in (Hostile(), [Hostile()], {"a": Hostile()}):
        assert check(answer, expected).state == NOT_YET


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=6,
)


@given(anything, anything)
def test_nothing_raises(answer, expected):
    assert str(check(answer, expected))


@given(anything.filter(lambda value: value is not None))
def test_a_value_equals_itself(value):
    def holds_none(item):
        parts = item.values() if isinstance(item, dict) else item if isinstance(item, list) else []
        return item is None or any(map(holds_none, parts))

    assert check(value, value) or holds_none(value)


def test_a_broken_check_says_so():
    verdict = check(3, lambda: 1 / 0)
    assert verdict.state == NOT_YET
    assert "not your fault: ZeroDivisionError" in verdict.message


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


CASES = [(0.0, 0.5), ((2.0,), sigmoid), (np.array([0.0, 1.0]), sigmoid)]


def test_functions_are_checked_case_by_case():
    assert str(check_function(sigmoid, CASES)) == "✓ right: 3 of 3 cases"
    wrong = check_function(lambda x: 0.5 + 0 * x, CASES, hint="the logistic curve")
    assert wrong.state == NOT_YET
    assert str(wrong).startswith("✗ not yet: case 2 of 3, 2.0: not")
    assert wrong.hint == "the logistic curve"


def test_functions_not_written_yet():
    assert check_function(None, CASES).state == NOT_TRIED
    assert check_function(lambda x: None, CASES).state == NOT_TRIED
    assert check_function(lambda x: 0.5 if x == 0 else None, CASES).message.endswith("it returns None")
    assert "without parentheses" in check_function(0.5, CASES).message


def test_exceptions_in_a_function_are_told_with_their_line():
    def student(x):
        return x / 0

    line = student.__code__.co_firstlineno + 1
    verdict = check_function(student, [(1, 2)])
    assert f"ZeroDivisionError: division by zero (line {line} of its cell)" in verdict.message
    assert "SystemExit" in check_function(lambda x: exit(), [(1, 2)]).message
    assert "RecursionError" in check_function(lambda x: (f := lambda: f())(), [(1, 2)]).message


def test_a_function_cannot_change_the_data_of_the_notebook():
    data = [3, 1, 2]

    def student(values):
        values.sort()
        return values

    assert check_function(student, [((data,), sorted)])
    assert data == [3, 1, 2]


def test_no_cases_prove_nothing():
    assert not check_function(sigmoid, [])


def test_an_answer_cannot_be_html_or_maths():
    hostile = '<script>alert(1)</script> $x$ \\(y\\) & "z"'
    body = check(hostile, 3, hint=hostile)._repr_html_()
    assert body.startswith("✗ <b>not yet</b>: expected")
    assert "&lt;script&gt;alert(1)&lt;/script&gt; <span>$</span>x<span>$</span> " in body
    assert "Hint: &lt;script&gt;" in body
    assert re.findall(r"<(?!/?(?:b|span)>)", body) == []
    assert not re.search(r"[$\\](?!</span>)", body)
