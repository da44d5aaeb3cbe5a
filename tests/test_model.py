"""`CrossEncoder`: how it is made, what it scores, what it ranks, and what it says of unusable input."""

from __future__ import annotations

import re
import threading
import warnings

import numpy as np
import pytest
import torch
from families import fitted, pairs_of_all_lengths, words

from crossenc_kit import CrossEncoder, DataError, InputExample, Pairs, TruncationWarning

pytestmark = pytest.mark.filterwarnings("error::UserWarning")  # nothing here may warn but where a test says so

PAIRS = pairs_of_all_lengths()[:8]  # none longer than 64 tokens


@pytest.fixture(scope="module")
def model():
    return fitted()


@pytest.fixture(scope="module")
def three():
    return fitted(num_labels=3)


def plain(model, pairs):
    """Raw scores `(N, C)` of Hugging Face's own model and tokenizer, a pair at a time."""
    with torch.no_grad():
        encoded = [model.tokenizer([left], [right], return_tensors="pt") for left, right in pairs]
        return torch.cat([model.model(**inputs).logits for inputs in encoded])


# --- the constructor ------------------------------------------------------------------------------


def test_a_bare_encoder_gets_one_label_and_its_own_longest_input():
    model = CrossEncoder("tiny")
    assert (model.num_labels, model.max_length, model.config.num_labels) == (1, 256, 1)
    assert isinstance(model.activation_fn, torch.nn.Sigmoid)
    assert isinstance(CrossEncoder("tiny", num_labels=3).activation_fn, torch.nn.Identity)
    parts = ["'tiny': BertForSequenceClassification", "0.1 M parameters", "num_labels=1", str(model.device)]
    assert repr(model) == f"CrossEncoder({', '.join(parts)})"


def test_places_and_names_of_arguments_are_those_of_sentence_transformers():
    model = CrossEncoder(
        "tiny",
        2,
        48,
        activation_fn=torch.nn.Tanh(),
        device="cpu",
        model_kwargs={"attn_implementation": "eager"},
        tokenizer_kwargs={"truncation_side": "left"},
        config_kwargs={"hidden_dropout_prob": 0.3},
        classifier_dropout=0.25,
    )
    assert (model.num_labels, model.max_length, str(model.device)) == (2, 48, "cpu")
    assert isinstance(model.activation_fn, torch.nn.Tanh)
    assert model.config._attn_implementation == "eager"
    assert model.tokenizer.truncation_side == "left"
    assert model.config.hidden_dropout_prob == 0.3
    assert model.model.dropout.p == 0.25


def test_older_spellings():
    tanh = torch.nn.Tanh()
    model = CrossEncoder(
        model_name="tiny",
        automodel_args={"attn_implementation": "eager"},
        tokenizer_args={"truncation_side": "left"},
        default_activation_function=tanh,
    )
    assert model.name == "tiny"
    assert model.config._attn_implementation == "eager"
    assert model.tokenizer.truncation_side == "left"
    assert model.activation_fn is tanh
    assert CrossEncoder("tiny", processor_kwargs={"truncation_side": "left"}).tokenizer.truncation_side == "left"


def test_both_spellings_warn_and_the_later_counts():
    message = "both activation_fn and its older spelling default_activation_function were given; activation_fn is used"
    with pytest.warns(UserWarning, match=message) as seen:
        model = CrossEncoder("tiny", activation_fn="Tanh", default_activation_function=torch.nn.ReLU())
    assert len(seen) == 1
    assert isinstance(model.activation_fn, torch.nn.Tanh)
    assert CrossEncoder("tiny", default_activation_function=None, activation_fn="sigmoid").num_labels == 1  # no warning


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model_name_or_path": "tiny", "lables": 3}, TypeError, "unexpected argument 'lables'"),
        ({}, TypeError, "needs a model: a folder, a hub name, 'minilm' or 'tiny'"),
        ({"model_name_or_path": "tiny", "num_labels": 0}, ValueError, "num_labels must be at least 1, got 0"),
        ({"model_name_or_path": "tiny", "max_length": 257}, ValueError, "max_length=257, but .* positions for 256"),
        ({"model_name_or_path": "tiny", "activation_fn": "no.such"}, ValueError, "not part of torch.nn"),
        ({"model_name_or_path": "tiny", "activation_fn": 3}, TypeError, "a function or the name of one, got 3"),
    ],
)
def test_arguments_without_a_meaning(arguments, error, message):
    with pytest.raises(error, match=message):
        CrossEncoder(**arguments)


def test_a_seed_gives_equal_heads_and_leaves_the_global_generator_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    heads = [CrossEncoder("tiny", seed=seed).model.classifier.weight for seed in (5, 5, 6)]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_without_a_seed_the_head_comes_from_the_global_generator():
    heads = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        heads.append(CrossEncoder("tiny").model.classifier.weight)
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


# --- predict: what goes in ------------------------------------------------------------------------


def test_scores_are_those_of_the_plain_model_after_the_activation(model, three):
    scores = model.predict(PAIRS)
    assert (scores.shape, scores.dtype) == ((8,), np.float32)
    assert np.allclose(scores, plain(model, PAIRS)[:, 0].sigmoid().numpy(), rtol=0, atol=1e-5)
    assert np.ptp(scores) > 0.1
    scores = three.predict(PAIRS)
    assert scores.shape == (8, 3)
    assert np.allclose(scores, plain(three, PAIRS).numpy(), rtol=0, atol=1e-5)


def test_every_form_of_input(model):
    left, right = [pair[0] for pair in PAIRS], [pair[1] for pair in PAIRS]
    expected = model.predict(PAIRS)
    forms = [
        [list(pair) for pair in PAIRS],
        np.array(PAIRS),
        np.array(PAIRS, dtype=object),
        [np.array(pair) for pair in PAIRS],
        tuple(PAIRS),
        (pair for pair in PAIRS),
        Pairs(left, right),
        Pairs(left, right, offsets=np.array([0, 3, 8])),
        [InputExample(texts=list(pair), label=0.5) for pair in PAIRS],
    ]
    for form in forms:
        assert model.predict(form).tolist() == expected.tolist(), type(form)
    assert model(PAIRS).tolist() == expected.tolist()


def test_a_single_pair_gives_a_single_score(model, three):
    expected = model.predict([PAIRS[1]])
    for form in (PAIRS[1], list(PAIRS[1]), np.array(PAIRS[1]), InputExample(texts=PAIRS[1])):
        score = model.predict(form)
        assert score.shape == ()
        assert score == expected[0]
    assert model.predict(PAIRS[1], convert_to_tensor=True).shape == ()
    assert three.predict(PAIRS[1]).shape == (3,)


def test_nothing_gives_nothing(model, three):
    assert model.predict([]).shape == (0,)
    assert three.predict([]).shape == (0, 3)
    assert three.predict([], apply_softmax=True, convert_to_tensor=True).shape == (0, 3)
    assert model.predict([], convert_to_numpy=False) == []
    assert model.predict(np.empty((0, 2), dtype=str)).shape == (0,)


@pytest.mark.parametrize(
    ("sentences", "message"),
    [
        ("one string", "expected a pair of texts or a list of pairs, got one string 'one string'"),
        (["one string"], "row 0: a pair has two texts, got 1"),
        (["a", "b", "c"], "row 0: a pair has two texts, got 3"),
        ([("a", "b"), "ab"], "row 1: expected two texts, got str 'ab'"),
        ([("a", "b"), ("c",)], "row 1: a pair has two texts, got 1"),
        ([("a", "b"), ("c", "d", "e")], "row 1: a pair has two texts, got 3"),
        ([("a", "b"), None], "row 1: expected two texts, got NoneType"),
        ([("a", "b"), []], "row 1: a pair has two texts, got 0"),
        ([("a", "b"), ("c", None)], r"row 1, text 1: the text is missing \(None\)"),
        ([("a", float("nan"))], r"row 0, text 1: the text is missing \(nan\)"),
        (("a", None), r"row 0, text 1: the text is missing"),
        ([(1, "b")], "row 0, text 0: expected a string, got int '1'"),
        ([("a", ["b"])], "row 0, text 1: expected a string, got list"),
        ([("a", b"b")], "row 0, text 1: expected a string, got bytes"),
        (np.array([["a", np.nan]], dtype=object), "row 0, text 1: the text is missing"),
        ([InputExample(texts=["a"])], "row 0: a pair has two texts, got 1"),
        ([InputExample()], "row 0: expected two texts, got NoneType"),
        ([{"left": "a", "right": "b"}] * 2, "expected a string, got dict"),
        ({"left": "a", "right": "b"}, "got dict"),
        ({"a", "b"}, "got set"),
        (None, "expected a pair of texts or a list of pairs, got NoneType"),
        (7, "got int"),
        (Pairs(["a"], [None]), "row 0, right text: the text is missing"),
    ],
)
def test_what_is_no_pair_of_texts(model, sentences, message):
    with pytest.raises(DataError, match=message):
        model.predict(sentences)
    assert not model.model.training


# --- predict: what comes out ----------------------------------------------------------------------


def test_conversions(model, three):
    expected = three.predict(PAIRS)
    tensor = three.predict(PAIRS, convert_to_tensor=True)
    assert (tensor.dtype, tensor.device.type, tensor.requires_grad) == (torch.float32, "cpu", False)
    assert tensor.numpy().tolist() == expected.tolist()
    rows = three.predict(PAIRS, convert_to_numpy=False)
    assert isinstance(rows, list)
    assert torch.equal(torch.stack(rows), tensor)
    assert len(model.predict(PAIRS, convert_to_numpy=False)) == 8
    tensor += 1  # not an inference tensor: the caller may work with it


def test_softmax(model, three):
    scores, raw = three.predict(PAIRS, apply_softmax=True), three.predict(PAIRS)
    assert np.allclose(scores.sum(axis=1), 1, atol=1e-6)
    assert np.allclose(scores, np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True), atol=1e-6)
    assert model.predict(PAIRS, apply_softmax=True).tolist() == model.predict(PAIRS).tolist()  # of one label: nothing


def test_activations(model):
    raw = plain(model, PAIRS)[:, 0]
    for options in ({"activation_fn": torch.nn.Identity()}, {"activation_fct": torch.nn.Identity()}):
        assert np.allclose(model.predict(PAIRS, **options), raw, atol=1e-5)
    assert np.allclose(model.predict(PAIRS, activation_fn="identity"), raw, atol=1e-5)
    assert np.allclose(model.predict(PAIRS, activation_fn="torch.nn.modules.activation.Tanh"), raw.tanh(), atol=1e-5)
    assert np.allclose(model.predict(PAIRS, activation_fn=torch.tanh), raw.tanh(), atol=1e-5)
    assert model.predict(PAIRS, activation_fn=torch.nn.PReLU()).shape == (8,)  # has a weight that wants a gradient
    assert np.allclose(model.predict(PAIRS), raw.sigmoid(), atol=1e-5)  # none of them stays


def test_a_pair_has_the_same_score_in_whatever_company(model):
    expected = model.predict(PAIRS)
    order = [5, 2, 7, 7, 0, 4, 1, 3, 6]
    shuffled = [PAIRS[row] for row in order]
    alone = np.array([model.predict(pair) for pair in PAIRS])
    for scores in (alone, model.predict(PAIRS, batch_size=3), model.predict(PAIRS, token_budget=1)):
        assert np.allclose(scores, expected, rtol=0, atol=1e-5)
    for options in ({}, {"threads": 1}, {"threads": 2, "token_budget": 20}, {"threads": 2, "batch_size": 1}):
        assert np.allclose(model.predict(shuffled, **options), expected[order], rtol=0, atol=1e-5)


def batches(model, monkeypatch, most=None):
    """The sizes of all batches that `predict` asks scores for; more rows than `most` do not fit into memory."""
    sizes, scores = [], model.scores

    def counted(tokens, rows):
        sizes.append(len(rows))
        if most is not None and len(rows) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return scores(tokens, rows)

    monkeypatch.setattr(model, "scores", counted)
    return sizes


def test_batches_are_counted_in_tokens_and_capped_by_batch_size(model, monkeypatch):
    sizes = batches(model, monkeypatch)
    model.predict([("the cat", "a dog")] * 300)  # 7 tokens each, 1024 a batch
    assert sizes == [146, 146, 8]
    sizes.clear()
    model.predict([("the cat", "a dog")] * 6, token_budget=29)
    assert sizes == [4, 2]
    sizes.clear()
    model.predict([("the cat", "a dog")] * 6, batch_size=5)
    assert sizes == [5, 1]
    with pytest.raises(ValueError, match="at least one row, got 0"):
        model.predict(PAIRS, batch_size=0)
    for options in ({"token_budget": 0}, {"token_budget": 1e4}, {"threads": 0}, {"threads": -1}, {"threads": True}):
        ((name, value),) = options.items()
        with pytest.raises(ValueError, match=f"{name} must be a whole number, 1 or more, got {value!r}"):
            model.predict(PAIRS, **options)


def test_a_device_that_is_not_there(model):
    for device in ("nope", "cuda:99", torch.device("cuda:99")):
        with pytest.raises(ValueError, match=f"there is no device '{device}' on this machine; choose from cpu"):
            model.to(device)
    assert str(model.to("cpu").device) == "cpu"


# --- predict: what it leaves behind ---------------------------------------------------------------


def test_the_mode_is_restored_and_dropout_is_off_meanwhile(model):
    expected = model.predict(PAIRS)
    assert not model.model.training
    model.model.train()
    try:
        assert model.predict(PAIRS).tolist() == expected.tolist()
        assert model.model.training
        with pytest.raises(DataError):
            model.predict([None])
        assert model.model.training
    finally:
        model.model.eval()


def test_no_gradient_is_kept(model):
    scores = model.predict(PAIRS, convert_to_tensor=True)
    assert scores.grad_fn is None
    assert all(parameter.grad is None for parameter in model.model.parameters())


def test_two_threads_score_side_by_side_on_one_core_each(model, monkeypatch):
    expected, scores = model.predict(PAIRS), model.scores
    both, inside = threading.Barrier(2, timeout=60), []

    def together(tokens, rows):
        inside.append(torch.get_num_threads())
        both.wait()  # passes only when two batches are under way at once
        return scores(tokens, rows)

    monkeypatch.setattr(model, "scores", together)
    torch.set_num_threads(2)
    assert np.allclose(model.predict(PAIRS, batch_size=1), expected, rtol=0, atol=1e-5)
    assert inside == [1] * 8
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_leaves_threads_and_mode_as_they_were(model, monkeypatch, threads):
    def fails(tokens, rows):
        raise RuntimeError("by design")

    monkeypatch.setattr(model, "scores", fails)
    torch.set_num_threads(2)
    model.model.train()
    try:
        with pytest.raises(RuntimeError, match="by design"):
            model.predict(PAIRS, batch_size=1, threads=threads)
        assert model.model.training
        assert torch.get_num_threads() == 2
    finally:
        model.model.eval()


@pytest.mark.parametrize("threads", [1, 2])
def test_out_of_memory_halves_the_batch_and_goes_on(model, monkeypatch, threads):
    expected = model.predict(PAIRS)
    sizes = batches(model, monkeypatch, most=2)
    assert np.allclose(model.predict(PAIRS, token_budget=10_000, threads=threads), expected, rtol=0, atol=1e-5)
    assert sizes == [8, 4, 2, 2, 4, 2, 2]


def test_one_row_that_does_not_fit_is_an_error(model, monkeypatch):
    sizes = batches(model, monkeypatch, most=0)
    with pytest.raises(torch.OutOfMemoryError, match="out of memory"):
        model.predict(PAIRS, token_budget=10_000)
    assert sizes == [8, 4, 2, 1]


def test_other_errors_are_not_tried_again(model, monkeypatch):
    calls = []

    def fails(tokens, rows):
        calls.append(len(rows))
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(model, "scores", fails)
    with pytest.raises(RuntimeError, match="shapes"):
        model.predict(PAIRS)
    assert calls == [8]


def test_what_running_out_of_memory_looks_like():
    from crossenc_kit.workers import out_of_memory

    assert out_of_memory(RuntimeError("[enforce fail at alloc_cpu.cpp] . DefaultCPUAllocator: can't allocate memory"))
    assert out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"))
    assert not out_of_memory(RuntimeError("CUDA error: device-side assert triggered"))


def test_the_progress_bar(model, capsys):
    model.predict(PAIRS)  # no terminal: none
    model.predict(PAIRS, show_progress_bar=False)
    assert capsys.readouterr().err == ""
    model.predict(PAIRS, show_progress_bar=True)
    assert re.search(r"scoring: 100%.* 8/8 ", capsys.readouterr().err)


# --- warnings -------------------------------------------------------------------------------------


def test_truncation_is_counted_and_reported():
    model = fitted(max_length=16)
    pairs = [(words(20, 0), "a dog"), ("the cat", "a dog"), (words(30, 1), words(30, 2))]
    with pytest.warns(TruncationWarning) as seen:
        scores = model.predict(pairs)
    message = r"2 of 3 pairs exceed max_length=16 tokens and were cut \(by 47 tokens at most\)"
    assert [bool(re.match(message, str(warning.message))) for warning in seen] == [True]
    assert seen[0].filename == __file__  # it points at the line that called `predict`
    assert model.truncated == 2
    longer = fitted(max_length=200)
    assert longer.predict(pairs)[1] == pytest.approx(scores[1], abs=1e-5)
    assert abs(longer.predict(pairs)[2] - scores[2]) > 1e-4
    assert longer.truncated == 0


def test_a_new_head_says_so_until_it_has_learnt(model):
    new = CrossEncoder("tiny", seed=0)
    assert new.untrained_head
    with pytest.warns(UserWarning, match="the head of 'tiny' is new and untrained") as seen:
        new.predict(PAIRS)
    assert seen[0].filename == __file__  # the line that asked for scores
    with torch.no_grad():  # a step of any loop
        new.model.classifier.weight -= 1e-6 * torch.ones(64)
    assert not new.untrained_head
    new.predict(PAIRS)
    assert not model.untrained_head


def test_a_new_head_in_another_precision_is_still_new():
    new = CrossEncoder("tiny", seed=0)
    new.model.bfloat16()
    assert new.untrained_head


def test_training_does_not_warn_of_the_new_head():
    from crossenc_kit import TrainingConfig, correlation_evaluator, train

    data = [(left, right, row % 2) for row, (left, right) in enumerate(PAIRS)]
    model = CrossEncoder("tiny", seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        config = TrainingConfig(epochs=2, batch_size=4, evaluation_steps=1, warmup_steps=0)
        train(model, data, "bce", config, correlation_evaluator(data))
        model.predict(PAIRS)


# --- ranking --------------------------------------------------------------------------------------

DOCUMENTS = [right for _, right in PAIRS]


def test_rank_sorts_the_documents_by_their_scores(model):
    scores = model.predict([("the cat", text) for text in DOCUMENTS])
    hits = model.rank("the cat", DOCUMENTS)
    assert [hit["corpus_id"] for hit in hits] == np.argsort(-scores, kind="stable").tolist()
    assert [hit["score"] for hit in hits] == pytest.approx(sorted(scores.tolist(), reverse=True), abs=1e-6)
    assert all(type(hit["corpus_id"]) is int and type(hit["score"]) is float for hit in hits)
    assert model.rank("the cat", DOCUMENTS, top_k=3) == hits[:3]
    assert model.rank("the cat", DOCUMENTS, top_k=99) == hits
    assert model.rank("the cat", DOCUMENTS, top_k=0) == []
    with_texts = model.rank("the cat", DOCUMENTS, return_documents=True)
    assert [hit["text"] for hit in with_texts] == [DOCUMENTS[hit["corpus_id"]] for hit in hits]


def test_equal_scores_keep_the_order_of_the_documents(model):
    hits = model.rank("the cat", ["a dog", "a dog", "the book", "a dog"])
    same = [hit["corpus_id"] for hit in hits if hit["corpus_id"] != 2]
    assert same == [0, 1, 3]


def test_options_of_predict(model):
    hits = model.rank("the cat", DOCUMENTS, activation_fn="identity", batch_size=2)
    assert any(hit["score"] < 0 or hit["score"] > 1 for hit in hits)
    for options in ({"convert_to_tensor": True}, {"convert_to_numpy": False}):
        assert model.rank("the cat", DOCUMENTS, **options) == model.rank("the cat", DOCUMENTS)


def test_rank_many_is_rank_for_each_query(model, monkeypatch):
    queries, candidates = ["the cat", "a book", "the dog"], [DOCUMENTS[:3], [], DOCUMENTS[2:]]
    expected = [model.rank(query, texts) for query, texts in zip(queries, candidates, strict=True)]
    sizes = batches(model, monkeypatch)
    rankings = model.rank_many(queries, candidates)
    assert len(sizes) == 1  # all of them in one go
    assert [[hit["corpus_id"] for hit in hits] for hits in rankings] == [
        [hit["corpus_id"] for hit in hits] for hits in expected
    ]
    assert rankings[1] == []
    assert model.rank_many([], []) == []
    assert model.rank("the cat", []) == []


@pytest.mark.parametrize(
    ("query", "documents", "options", "error", "message"),
    [
        ("q", "one document", {}, DataError, "got one string; put it in a list"),
        ("q", ["a", None], {}, DataError, "row 1, text 1: the text is missing"),
        (None, ["a"], {}, DataError, "row 0, text 0: the text is missing"),
        ("q", ["a"], {"top_k": -1}, ValueError, "top_k must not be negative, got -1"),
    ],
)
def test_what_cannot_be_ranked(model, query, documents, options, error, message):
    with pytest.raises(error, match=message):
        model.rank(query, documents, **options)


def test_what_cannot_be_ranked_together(model, three):
    with pytest.raises(DataError, match="2 queries, but 1 lists of documents"):
        model.rank_many(["a", "b"], [["c"]])
    with pytest.raises(DataError, match="got one string"):
        model.rank_many("a", [["c"]])
    with pytest.raises(ValueError, match="ranking needs one score a pair, this model has num_labels=3"):
        three.rank("a", ["b"])


def test_a_head_that_was_put_in_by_hand_is_the_callers_own():
    model = CrossEncoder("tiny", num_labels=1, seed=0)
    assert model.untrained_head
    width = model.config.hidden_size
    model.model.classifier = torch.nn.Sequential(torch.nn.Linear(width, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    assert not model.untrained_head
    model.model.classifier = torch.nn.Linear(width, 2)
    assert not model.untrained_head
