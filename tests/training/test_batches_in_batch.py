"""Negatives from the batch: who may be one, drawn from what, and the loss and gradients of sentence-transformers."""

from __future__ import annotations

import warnings
from collections import Counter
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import run, sentences, tiny

from crossenc_kit import CrossEncoder, DataError, TrainingConfig, as_pairs, loss_with
from crossenc_kit.models.tokens import RULES
from crossenc_kit.training.batches import Lists, known_positives, put_together, widen

ROWS = [
    ("cat", ["kitten", "puppy"], [1, 0]),
    ("dog", ["puppy", "stone"], [1, 0]),
    ("rock", ["stone"], [1]),
    ("hound", ["dog"], [1]),
    ("cat", ["tomcat"], [1]),
]


@cache
def tokenizer():
    return tiny()


def widened(rows=ROWS, groups=None, in_batch="all", seed=0):
    """The step's lists as `[(query, [documents], [labels])]`, in texts."""
    data = as_pairs(rows)
    tokens = tokenizer().tokenize(data)
    words = {number: text for numbers, texts in ((tokens.left, data.left), (tokens.right, data.right))
             for number, text in zip(numbers.tolist(), texts, strict=True)}  # fmt: skip
    lists = Lists(tokens, data.labels, data.offsets)
    groups = np.arange(len(data)) if groups is None else np.asarray(groups)
    generator, positives = np.random.default_rng(seed), known_positives(tokens, data.labels)
    made = widen(lists, groups, in_batch, positives, generator, lambda sizes: sizes)
    found = []
    for start, stop in zip(made.offsets[:-1], made.offsets[1:], strict=True):
        assert len(set(made.tokens.left[start:stop])) == 1
        documents = [words[number] for number in made.tokens.right[start:stop].tolist()]
        found.append((words[int(made.tokens.left[start])], documents, made.labels[start:stop].tolist()))
    return found


# --- who may be a negative ------------------------------------------------------------------------


def test_all_documents_of_the_other_lists_once_but_for_those_that_answer():
    found = widened()
    assert [query for query, _, _ in found] == ["cat", "dog", "rock", "hound", "cat"]
    # "tomcat" answers "cat" in another row, and "puppy" is there already
    assert found[0] == ("cat", ["kitten", "puppy", "dog", "stone"], [1, 0, 0, 0])
    # the document "dog" is the query itself
    assert found[1] == ("dog", ["puppy", "stone", "kitten", "tomcat"], [1, 0, 0, 0])
    assert found[2] == ("rock", ["stone", "dog", "kitten", "puppy", "tomcat"], [1, 0, 0, 0, 0])
    assert found[3] == ("hound", ["dog", "kitten", "puppy", "stone", "tomcat"], [1, 0, 0, 0, 0])
    assert found[4] == ("cat", ["tomcat", "dog", "puppy", "stone"], [1, 0, 0, 0])


def test_only_those_of_the_step_and_in_its_order():
    assert widened(groups=[2, 0]) == [
        ("rock", ["stone", "kitten", "puppy"], [1, 0, 0]),
        ("cat", ["kitten", "puppy", "stone"], [1, 0, 0]),
    ]
    assert widened(groups=[3, 1])[1] == ("dog", ["puppy", "stone"], [1, 0])  # the only other document is "dog"


def test_a_known_positive_counts_wherever_in_the_data_it_stands():
    rows = [("cat", ["kitten"], [1]), ("dog", ["tomcat"], [1]), ("cat", ["tomcat"], [1])]
    assert widened(rows, groups=[0, 1])[0] == ("cat", ["kitten"], [1])


def test_so_many_are_drawn_without_repeats_or_all_there_are():
    found = widened(in_batch=2)
    assert [len(documents) for _, documents, _ in found] == [4, 4, 3, 3, 3]
    for (_, some, labels), (_, every, _), row in zip(found, widened(), ROWS, strict=True):
        assert some[: len(row[1])] == row[1]
        assert labels == row[2] + [0, 0]
        assert len(set(some)) == len(some)
        assert set(some) <= set(every)
    assert [sorted(documents) for _, documents, _ in widened(in_batch=9)] == [sorted(row[1]) for row in widened()]


def test_every_document_is_as_likely():
    counts = Counter(text for seed in range(400) for text in widened(groups=[2, 0, 3], in_batch=1, seed=seed)[0][1][1:])
    assert sorted(counts) == ["dog", "kitten", "puppy"]
    assert all(100 < count < 170 for count in counts.values())  # 133 expected, four standard deviations are 38


@settings(max_examples=15)
@given(seed=st.integers(0, 1000), count=st.integers(1, 9), in_batch=st.sampled_from([1, 3, "all"]))
def test_own_documents_stay_and_no_list_holds_a_text_twice(seed, count, in_batch):
    words = np.random.default_rng(seed).permutation([f"word {n}" for n in range(12)]).tolist()
    rows = [(words[n % 3], [words[(3 + n * 2) % 12], words[(4 + n * 2) % 12]], [1, 0]) for n in range(count)]
    answers = {(query, documents[0]) for query, documents, _ in rows}
    for (query, documents, labels), row in zip(widened(rows, in_batch=in_batch, seed=seed), rows, strict=True):
        assert documents[:2] == row[1]
        assert labels == [1, 0] + [0] * (len(documents) - 2)
        assert len(set(documents)) == len(documents)
        assert not {(query, text) for text in documents[2:]} & (answers | {(query, query)})
        assert in_batch == "all" or len(documents) <= 2 + in_batch


@pytest.mark.parametrize("rule", list(RULES))
def test_pairs_put_together_are_as_tokenised(rule):
    data = sentences(12)
    model = tiny(max_length=14, truncation=rule)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tokens = model.tokenize(data)
        order = np.random.default_rng(0).permutation(12)
        expected = model.tokenize(list(zip(data.left, [data.right[row] for row in order], strict=True)))
    found = put_together(
        tokens, tokens.left, tokens.right[order], lambda sizes: RULES[rule](sizes, 14 - tokens.template.size)
    )
    assert found.ids is tokens.ids
    assert found.dropped.tolist() == expected.dropped.tolist()
    assert found.dropped.any()
    assert found.lengths.tolist() == expected.lengths.tolist()
    for row in range(12):
        for ours, theirs in zip(found.pair(row), expected.pair(row), strict=True):
            assert ours.tolist() == theirs.tolist()


# --- in training ----------------------------------------------------------------------------------

CONFIG = TrainingConfig(batch_size=6, epochs=2, learning_rate=1e-3)


def singles(count=12):
    """Pairs whose texts all differ."""
    pairs = sentences(22)
    return [(f"{number} {pairs.left[number]}", f"{number} {pairs.right[number]}") for number in range(count)]


def test_pairs_without_labels_are_positives():
    outcome = run(CONFIG, singles(), loss_with("multiple_negatives", in_batch="all"))
    assert outcome.result.history.column("pairs")[1].tolist() == [36] * 4
    labelled = run(CONFIG, [(*row, 1) for row in singles()], loss_with("multiple_negatives", in_batch="all"))
    assert labelled.digests() == outcome.digests()
    with pytest.raises(DataError, match="training needs labels"):
        run(CONFIG, singles(), "bce")


def test_the_draw_is_of_seed_epoch_and_step_however_the_step_is_cut():
    seen = []

    def loss_of(model, **changes):
        outcome = run(CONFIG, singles(), loss_with("multiple_negatives", in_batch=2), model=model, **changes)
        seen.append(outcome.result.history.column("tokens")[1].tolist())
        return outcome

    whole, again = loss_of(tiny(dropout=False)), loss_of(tiny(dropout=False), token_budget=80)
    cut = loss_of(tiny(dropout=False), batch_size=2, accumulation=3)
    assert seen[0] == seen[1] == seen[2]
    for other in (again, cut):
        losses = [outcome.result.history.column("loss")[1] for outcome in (whole, other)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    loss_of(tiny(dropout=False), seed=1)
    assert seen[3] != seen[0]
    assert len(set(seen[0])) == 4  # another draw in each step of each epoch
    assert whole.result.history.column("pairs")[1].tolist() == [18] * 4


def test_micro_batches_are_cut_by_the_tokens_of_the_wider_lists(monkeypatch):
    sizes = []
    scores = CrossEncoder.scores

    def counted(model, tokens, rows):
        sizes.append(int(tokens.lengths[rows].sum()))
        return scores(model, tokens, rows)

    monkeypatch.setattr(CrossEncoder, "scores", counted)
    run(CONFIG, singles(), loss_with("multiple_negatives", in_batch="all"), token_budget=170, epochs=1)
    assert max(sizes) <= 170
    assert len(sizes) > 6


# --- what has no meaning --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "ranknet", "in_batch": 2}, "'ranknet' has no in_batch: its labels are not grades"),
        ({"name": "bce", "in_batch": 2}, "'bce_with_logits' has no in_batch: its labels are not grades"),
    ],
)  # fmt: skip
def test_losses_and_numbers_that_take_none(arguments, message):
    with pytest.raises(ValueError, match=message):
        loss_with(**arguments)


def test_lists_without_one_positive_are_named_before_the_first_step():
    rows = [("a", ["b", "c"], [1, 0]), ("d", ["e", "f"], [1, 1]), ("g", ["h"], [0])]
    for loss in ("multiple_negatives", loss_with("multiple_negatives", in_batch=2)):
        with pytest.raises(
            DataError, match=r"^row 1: 2 of its 2 documents have a label above 0, .* \(2 of 3 rows have"
        ):
            run(CONFIG, rows, loss)
    with pytest.raises(DataError, match=r"^row 2: 0 of its 1 documents"):
        run(CONFIG, rows[:1] + rows[:1] + rows[2:], "multiple_negatives")
