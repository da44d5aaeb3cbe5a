"""Check the answers to exercises: "not tried yet", "not yet", "close" or "right".

A check never raises, and never shows the solution: a wrong answer gets a hint. The expected value
may be a function without arguments, so that the notebook need not show it either.
"""

from __future__ import annotations

import copy
import html
import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import Any

import numpy as np

from crossenc_kit.plots.figures import one_line

NOT_TRIED, NOT_YET, CLOSE, RIGHT = "not tried yet", "not yet", "close", "right"
MARKS = {NOT_TRIED: "○", NOT_YET: "✗", CLOSE: "≈", RIGHT: "✓"}
NEAR = 0.1  # relative error of a number that is still close
ALIKE = 0.8  # share of equal letters from which a text is close
TOLERANCE = 1e-3  # relative error that is right, unless the exercise says otherwise


@dataclass(frozen=True, repr=False)
class Verdict:
    """What a check says: `state`, why, and a hint for a wrong answer; true only if right."""

    state: str
    message: str = ""
    hint: str = ""

    def __bool__(self) -> bool:
        return self.state == RIGHT

    def __str__(self) -> str:
        return f"{MARKS[self.state]} {self.state}{self._rest()}"

    __repr__ = __str__

    def _rest(self) -> str:
        hint = f". Hint: {self.hint}" if self.hint and self.state in (NOT_YET, CLOSE) else ""
        return (f": {self.message}" if self.message else "") + hint

    def _repr_html_(self) -> str:
        # MathJax reads maths between dollars or backslashed brackets, if both are in one element
        rest = re.sub(r"[$\\]", r"<span>\g<0></span>", html.escape(self._rest()))
        return f"{MARKS[self.state]} <b>{self.state}</b>{rest}"


def check(answer: Any, expected: Any, *, hint: str = "", tolerance: float | None = None) -> Verdict:
    """Compare an answer with the expected number, array, text, set, list or mapping.

    `None` and `...` are "not tried yet". A number within 10 % is close, and so is an array of the
    right shape with at least one right value.

    expected: the value, or a function without arguments that computes it
    tolerance: largest error, relative to the largest expected magnitude (default 1e-3); without
        it, whole numbers and booleans must match exactly
    """
    if answer is None or answer is ...:
        return Verdict(NOT_TRIED)
    return _verdict(lambda: answer, expected, (), hint, tolerance)


def check_function(
    function: Any,
    cases: Sequence[tuple[Any, Any]],
    *,
    hint: str = "",
    tolerance: float | None = None,
) -> Verdict:
    """Call the student's function on every case, and report the first that is not right.

    The function gets copies, so it cannot change the notebook's data.

    cases: `(arguments, expected)`; a tuple of arguments is spread, anything else is the only one.
        `expected` may be a reference function, which is called with the same arguments
    """
    if function is None or function is ...:
        return Verdict(NOT_TRIED)
    if not callable(function):
        return Verdict(NOT_YET, "expected a function; give its name without parentheses", hint)
    if not cases:
        return Verdict(NOT_YET, "the check itself has no cases, which is not your fault")
    for number, (given, expected) in enumerate(cases, 1):
        arguments = given if isinstance(given, tuple) else (given,)
        verdict = _verdict(function, expected, arguments, hint, tolerance)
        if verdict.state == NOT_TRIED and number > 1:
            verdict = Verdict(NOT_YET, "it returns None", hint)
        if not verdict:
            shown = one_line(", ".join(map(repr, arguments)), 60)
            where = f"case {number} of {len(cases)}, {shown}"
            return replace(verdict, message=f"{where}: {verdict.message}")
    return Verdict(RIGHT, f"{len(cases)} of {len(cases)} cases")


def _verdict(function: Callable, expected: Any, arguments: tuple, hint: str, tolerance: float | None) -> Verdict:
    """Compare what `function` returns for `arguments` with `expected`; an error is a verdict too."""
    doing = "the check itself failed, which is not your fault"
    try:
        value = expected(*copy.deepcopy(arguments)) if callable(expected) else expected
        doing = "your function raised an error"
        answer = function(*copy.deepcopy(arguments))
        doing = f"cannot compare {type(answer).__name__} with the expected {type(value).__name__}"
        if answer is None or answer is ...:
            return Verdict(NOT_TRIED)
        return replace(_compare(answer, value, tolerance), hint=hint)
    except (Exception, SystemExit) as error:  # an answer can be any object, with any `__eq__`
        said = f"{type(error).__name__}: {one_line(str(error), 120)}"
        said += _line_of(error, function) if doing.startswith("your") else ""
        return Verdict(NOT_YET, f"{doing}: {said}", hint)


def _compare(answer: Any, expected: Any, tolerance: float | None) -> Verdict:
    if callable(answer):
        return Verdict(NOT_YET, "that is a function, not its result; call it")
    if isinstance(expected, str):
        return _compare_texts(answer, expected)
    if isinstance(expected, (set, frozenset)):
        return _compare_sets(answer, set(expected))
    numbers = _numbers(expected)
    if numbers is not None:
        return _compare_numbers(answer, numbers, tolerance)
    if isinstance(expected, (Mapping, list, tuple)):
        return _compare_parts(answer, expected, tolerance)
    return _right_or(bool(answer == expected), False, f"not {_shown(answer)}")


def _right_or(right: Any, near: Any, message: str) -> Verdict:
    return Verdict(RIGHT) if right else Verdict(CLOSE if near else NOT_YET, message)


def _compare_texts(answer: Any, expected: str) -> Verdict:
    """Compare texts; case and spaces do not count."""
    if not isinstance(answer, str):
        return Verdict(NOT_YET, f"expected a text in quotes, got {_kind(answer)}")
    ours, theirs = (" ".join(text.casefold().split()) for text in (expected, answer))
    alike = SequenceMatcher(None, ours, theirs).ratio() > ALIKE
    return _right_or(ours == theirs, alike, f"not {_shown(answer)}")


def _compare_sets(answer: Any, expected: set) -> Verdict:
    if isinstance(answer, (str, Mapping)) or not hasattr(answer, "__iter__"):
        return Verdict(NOT_YET, f"expected a set, {{...}}, got {_kind(answer)}")
    given = set(answer)
    found = len(given & expected)
    message = f"{found} of your {len(given)} belong, {len(expected) - found} are missing"
    return _right_or(given == expected, 2 * found >= len(given | expected), message)


def _compare_parts(answer: Any, expected: Any, tolerance: float | None) -> Verdict:
    """Compare a list or a mapping part by part."""
    mapping = isinstance(expected, Mapping)
    if not isinstance(answer, Mapping if mapping else (list, tuple)):
        return Verdict(NOT_YET, f"expected a {type(expected).__name__}, got {_kind(answer)}")
    if mapping and set(answer) != set(expected):
        found = _compare_sets(set(answer), set(expected))
        return replace(found, message=f"keys: {found.message}")
    if len(answer) != len(expected):
        return Verdict(NOT_YET, f"expected {len(expected)} items, got {len(answer)}")
    places = expected if mapping else range(len(expected))
    verdicts = [_compare(answer[key], expected[key], tolerance) for key in places]
    right = sum(map(bool, verdicts))
    near = right or any(verdict.state == CLOSE for verdict in verdicts)
    message = f"{right} of {len(verdicts)} values are right"
    return _right_or(right == len(verdicts), near, message)


def _compare_numbers(given: Any, expected: np.ndarray, tolerance: float | None) -> Verdict:
    answer = _numbers(given)
    if answer is None or answer.shape != expected.shape:
        got = _kind(given) if answer is None else _shape(answer)
        turned = answer is not None and expected.ndim > 1 and answer.shape == expected.T.shape
        hint = "; transposed?" if turned else ""
        return Verdict(NOT_YET, f"expected {_shape(expected)}, got {got}{hint}")
    theirs, ours = answer.astype(float), expected.astype(float)
    scale = float(np.abs(ours[np.isfinite(ours)]).max(initial=0.0)) or 1.0
    equal = (theirs == ours) | (np.isnan(theirs) & np.isnan(ours))
    with np.errstate(invalid="ignore"):  # inf - inf
        error = np.where(equal, 0.0, np.abs(theirs - ours) / scale)
    exact = 0.0 if expected.dtype.kind in "bui" else TOLERANCE
    good = error <= (exact if tolerance is None else tolerance)
    if answer.ndim:
        message = f"the shape is right, {good.sum()} of {good.size} values are"
        return _right_or(good.all(), good.any() or error.max(initial=0.0) <= NEAR, message)
    near = error <= NEAR and expected.dtype.kind != "b"
    return _right_or(good.all(), near, f"not {_shown(given)}{_guess(theirs, ours)}")


def _guess(answer: np.ndarray, expected: np.ndarray) -> str:
    """Guess what went wrong with a number, without giving the right one away."""
    guesses = {-1: "look at the sign", 100: "percent, or a fraction?", 0.01: "percent, or a fraction?"}
    for factor, guess in guesses.items():
        if np.isclose(answer, factor * expected, rtol=1e-3, atol=0):
            return f"; {guess}"
    return ""


def _numbers(value: Any) -> np.ndarray | None:
    """Read a number, array, tensor or nested list as an array; None for anything else."""
    try:
        array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    except ValueError:  # rows of different lengths
        return None
    return array if array.dtype.kind in "buif" else None


def _kind(value: Any) -> str:
    return f"{type(value).__name__} {_shown(value)}"


def _shape(array: np.ndarray) -> str:
    return f"an array of shape {array.shape}" if array.ndim else "a single number"


def _shown(value: Any) -> str:
    return one_line(repr(value), 60)


def _line_of(error: BaseException, function: Callable) -> str:
    """Say where in the student's own cell the error arose, if it did there."""
    file = getattr(getattr(function, "__code__", None), "co_filename", None)
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
    return f" (line {lines[-1]} of its cell)" if lines else ""
