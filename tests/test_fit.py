"""`fit` of sentence-transformers 3.x: code of its training page, word for word, and every argument."""

from __future__ import annotations

import csv
import math

import numpy as np
import pytest
import torch
from small_runs import sentences, tiny
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, SequentialSampler

import crossenc_kit
from crossenc_kit import CECorrelationEvaluator, CESoftmaxAccuracyEvaluator, CrossEncoder, DataError, InputExample
from crossenc_kit import CrossEncoderCorrelationEvaluator as LaterEvaluator

PAIRS = [("a cat", "a dog", 0.3), ("the sun", "a star", 0.9), ("one two", "three", 0.0), ("red", "green blue", 0.6)]


@pytest.fixture
def samples():
    return [InputExample(texts=[left, right], label=label) for left, right, label in 3 * PAIRS]  # 12


@pytest.fixture
def loader(samples):
    return DataLoader(samples, shuffle=True, batch_size=4)


@pytest.fixture
def model():
    return fresh()


def fresh(num_labels=1, dropout=True):
    changes = {} if dropout else {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return CrossEncoder("tiny", num_labels=num_labels, seed=0, device="cpu", config_args=changes)


pytestmark = pytest.mark.filterwarnings("ignore:the head of")  # untrained on purpose
QUIET = {"warmup_steps": 0, "show_progress_bar": False}


class Answers:
    """An evaluator that gives the answers in turn and notes how it was called."""

    def __init__(self, *answers):
        self.answers, self.calls = list(answers), []

    def __call__(self, model, output_path=None, epoch=-1, steps=-1):
        self.calls.append((output_path, epoch, steps))
        return self.answers.pop(0)


def weights(model):
    return {name: tensor.clone() for name, tensor in model.model.state_dict().items()}


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


# --- the page, word for word ----------------------------------------------------------------------


def test_the_regression_example_of_the_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"DataLoader": DataLoader, "name": "tiny"}
    exec(
        """
from crossenc_kit import CrossEncoder, InputExample
from crossenc_kit import CECorrelationEvaluator

model = CrossEncoder(name, num_labels=1)
train_samples = [
    InputExample(texts=["sentence1", "sentence2"], label=0.3),
    InputExample(texts=["Another", "pair"], label=0.8),
]
train_dataloader = DataLoader(train_samples, shuffle=True, batch_size=16)
evaluator = CECorrelationEvaluator.from_input_examples(train_samples, name="sts-dev")
model.fit(train_dataloader=train_dataloader, evaluator=evaluator, epochs=4, warmup_steps=1, output_path="out")
scores = model.predict([["My first", "sentence pair"], ["Second text", "pair"]])
""",
        namespace,
    )
    assert namespace["scores"].shape == (2,)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    with open(tmp_path / "out" / "CECorrelationEvaluator_sts-dev_results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1", "2", "3"]
    assert {row["steps"] for row in rows} == {"-1"}
    again = CrossEncoder("out")
    assert again.num_labels == 1


def test_the_classification_example_of_the_page(tmp_path):
    train_samples = [
        InputExample(texts=["sentence1", "sentence2"], label=2),
        InputExample(texts=["Another", "pair"], label=0),
        InputExample(texts=["A", "third"], label=1),
    ]
    model = CrossEncoder("tiny", num_labels=3)
    evaluator = CESoftmaxAccuracyEvaluator.from_input_examples(train_samples, name="dev")
    loader = DataLoader(train_samples, shuffle=True, batch_size=16)
    model.fit(train_dataloader=loader, evaluator=evaluator, epochs=2, output_path=str(tmp_path / "nli"), **QUIET)
    assert model.predict(["My first", "sentence pair"]).shape == (3,)
    assert CrossEncoder(tmp_path / "nli").num_labels == 3


def test_the_arguments_of_the_constructor_are_those_of_3_4_in_its_order():
    identity = nn.Identity()
    model = CrossEncoder("tiny", 2, 32, "cpu", {}, {}, {}, None, False, None, True, identity, 0.3)
    assert (model.num_labels, model.max_length, str(model.device)) == (2, 32, "cpu")
    assert model.default_activation_function is model.activation_fn is identity
    assert model.config.classifier_dropout == 0.3


def test_two_spellings_of_one_argument_warn_once():
    sigmoid = nn.Sigmoid()
    with pytest.warns(
        UserWarning, match="both activation_fn and its older spelling default_activation_function"
    ) as seen:
        model = CrossEncoder("tiny", default_activation_function=nn.Identity(), activation_fn=sigmoid, device="cpu")
    assert len(seen) == 1
    assert model.activation_fn is sigmoid


def test_the_public_class_is_the_kits_own():
    assert issubclass(CrossEncoder, crossenc_kit.model.CrossEncoder)
    assert isinstance(tiny(), crossenc_kit.model.CrossEncoder)


# --- it is the plain loop -------------------------------------------------------------------------


@pytest.mark.parametrize("num_labels", [1, 3])
def test_it_ends_where_the_loop_of_3_4_written_out_ends(num_labels, samples):
    for row, sample in enumerate(samples):
        sample.label = sample.label if num_labels == 1 else row % 3
    loader = DataLoader(samples, shuffle=False, batch_size=5)  # the last batch is smaller
    model, plain = fresh(num_labels, dropout=False), fresh(num_labels, dropout=False)
    model.fit(loader, epochs=2, warmup_steps=2, optimizer_params={"lr": 1e-3}, show_progress_bar=False)

    net = plain.model.train()
    no_decay = ["bias", "LayerNorm.bias", "LayerNorm.weight"]
    kept = [p for n, p in net.named_parameters() if not any(part in n for part in no_decay)]
    free = [p for n, p in net.named_parameters() if any(part in n for part in no_decay)]
    groups = [{"params": kept, "weight_decay": 0.01}, {"params": free, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    loss_fct = nn.BCEWithLogitsLoss() if num_labels == 1 else nn.CrossEntropyLoss()
    total, step = 6, 0
    for _ in range(2):
        for start in (0, 5, 10):
            batch = samples[start : start + 5]
            rate = 1e-3 * (step / 2 if step < 2 else (total - step) / (total - 2))
            for group in optimizer.param_groups:
                group["lr"] = rate
            texts = [[sample.texts[side] for sample in batch] for side in (0, 1)]
            logits = net(**plain.tokenizer(*texts, padding=True, return_tensors="pt")).logits
            kind = torch.float if num_labels == 1 else torch.long
            labels = torch.tensor([sample.label for sample in batch], dtype=kind)
            loss_fct(logits.view(-1) if num_labels == 1 else logits, labels).backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
    found, expected = weights(model), weights(plain)
    assert max(float((found[name] - expected[name]).abs().max()) for name in found) < 2e-5


def test_torchs_seed_fixes_all_of_it(loader):
    ends = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        model = fresh()
        model.fit(loader, optimizer_params={"lr": 1e-3}, **QUIET)
        ends.append(weights(model))
    assert same(ends[0], ends[1])
    assert not same(ends[0], ends[2])


def test_batches_are_the_loaders(samples):
    seen = []

    def loss(scores, labels):
        seen.append(labels.tolist())
        return (scores - labels).pow(2).mean()

    for number, sample in enumerate(samples):
        sample.label = number / 12
    order = [[3, 1], [0, 2, 5]]
    fresh().fit(DataLoader(samples, batch_sampler=order), epochs=2, loss_fct=loss, **QUIET)
    found = [sorted(round(12 * label) for label in labels) for labels in seen]
    assert found == [[1, 3], [0, 2, 5]] * 2

    seen.clear()
    loader = DataLoader(samples, batch_size=5, drop_last=True, sampler=SequentialSampler(samples))
    fresh().fit(loader, loss_fct=loss, **QUIET)
    assert [len(labels) for labels in seen] == [5, 5]


def test_shuffled_batches_differ_between_epochs(samples):
    seen = []
    for number, sample in enumerate(samples):
        sample.label = number / 12

    def loss(scores, labels):
        seen.append(sorted(labels.tolist()))
        return (scores - labels).pow(2).mean()

    torch.manual_seed(0)
    fresh().fit(DataLoader(samples, shuffle=True, batch_size=6), epochs=2, loss_fct=loss, **QUIET)
    assert sorted(seen[0] + seen[1]) == sorted(seen[2] + seen[3])
    assert seen[:2] != seen[2:]


def test_a_stream_of_examples(samples):
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(samples)

    seen = []
    loader = DataLoader(Stream(), batch_size=5)
    fresh().fit(loader, loss_fct=lambda s, y: seen.append(len(y)) or (s - y).pow(2).mean(), **QUIET)
    assert seen == [5, 5, 2]


@pytest.mark.parametrize("given", [[InputExample(texts=["a", "b"], label=1)], DataLoader([1], batch_size=None)])
def test_what_is_no_data_loader(given, model):
    with pytest.raises(TypeError, match="train_dataloader must be a torch DataLoader over a list of InputExample"):
        model.fit(given)


# --- loss, activation, optimizer, schedule --------------------------------------------------------


def test_a_loss_and_an_activation_of_the_callers_own(loader):
    seen = []

    class Recorded(nn.Module):
        def forward(self, scores, labels):
            seen.append((scores.detach(), labels))
            return nn.functional.mse_loss(scores, labels)

    fresh().fit(loader, loss_fct=Recorded(), activation_fct=nn.Sigmoid(), **QUIET)
    assert len(seen) == 3
    assert all(scores.shape == labels.shape == (4,) for scores, labels in seen)
    assert all(((scores > 0) & (scores < 1)).all() for scores, _ in seen)


def test_the_activation_comes_before_the_usual_loss(loader):
    ends = []
    for activation in (None, nn.Identity(), nn.Tanh()):
        torch.manual_seed(0)
        model = fresh()
        model.fit(loader, activation_fct=activation, optimizer_params={"lr": 1e-3}, **QUIET)
        ends.append(weights(model))
    assert same(ends[0], ends[1])
    assert not same(ends[0], ends[2])


def test_an_optimizer_of_the_callers_own(loader):
    made = []

    class Recorded(torch.optim.SGD):
        def __init__(self, groups, **options):
            super().__init__(groups, **options)
            made.append(([(len(g["params"]), g["weight_decay"], g["momentum"]) for g in self.param_groups], options))

    fresh().fit(
        loader, optimizer_class=Recorded, optimizer_params={"lr": 0.1, "momentum": 0.5}, weight_decay=0.2, **QUIET
    )
    groups, options = made[0]
    assert options == {"lr": 0.1, "momentum": 0.5}
    assert sorted({(decay, momentum) for _, decay, momentum in groups}) == [(0.0, 0.5), (0.2, 0.5)]


def test_an_optimizer_without_a_rate(loader, model):
    class Rateless(torch.optim.Optimizer):
        def __init__(self, groups):
            super().__init__(groups, {})

    with pytest.raises(ValueError, match="optimizer_params has no learning rate, and Rateless no usual one"):
        model.fit(loader, optimizer_class=Rateless, optimizer_params={}, **QUIET)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("constantlr", [1, 1, 1, 1]),
        ("WarmupConstant", [0, 0.5, 1, 1]),
        ("warmuplinear", [0, 0.5, 1, 0.5]),
        ("warmupcosine", [0, 0.5, 1, 0.5]),
        ("warmupcosinewithhardrestarts", [0, 0.5, 1, 0.5]),
    ],
)
def test_the_five_schedules(name, expected, samples):
    rates = []

    class Recorded(torch.optim.SGD):
        def step(self, closure=None):
            rates.append(self.param_groups[0]["lr"])
            return super().step(closure)

    loader = DataLoader(samples, batch_size=3)  # 4 steps
    fresh().fit(
        loader,
        scheduler=name,
        warmup_steps=2,
        optimizer_class=Recorded,
        optimizer_params={"lr": 0.1},
        show_progress_bar=False,
    )
    assert rates == pytest.approx([0.1 * factor for factor in expected])


def test_a_scheduler_object(samples):
    rates = []

    class Recorded(torch.optim.SGD):
        def step(self, closure=None):
            rates.append(self.param_groups[0]["lr"])
            return super().step(closure)

    dummy = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=3.0)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(dummy, 0.5)
    fresh().fit(
        DataLoader(samples, batch_size=4),
        scheduler=scheduler,
        optimizer_class=Recorded,
        optimizer_params={"lr": 0.1},
        **QUIET,
    )
    assert rates == pytest.approx([0.1, 0.05, 0.025])


@pytest.mark.parametrize(("scheduler", "error"), [("steep", ValueError), (3, TypeError)])
def test_what_is_no_schedule(scheduler, error, loader, model):
    with pytest.raises(error, match=r"unknown scheduler 'steep'|scheduler must be a name or have step\(\)"):
        model.fit(loader, scheduler=scheduler, **QUIET)


def test_the_usual_warm_up_is_longer_than_a_short_run_and_says_so(loader, model):
    with pytest.warns(UserWarning, match=r"the warm-up of 10000 steps .* will reach 4\.00e-09, not 2\.00e-05"):
        model.fit(loader, show_progress_bar=False)


def test_clipping(loader):
    ends = []
    for most in (1.0, 1e-6):
        torch.manual_seed(0)
        model, before = fresh(), weights(fresh())
        plain = {"optimizer_class": torch.optim.SGD, "optimizer_params": {"lr": 0.1}, "weight_decay": 0.0}
        model.fit(loader, max_grad_norm=most, **plain, **QUIET)
        after = weights(model)
        ends.append(max(float((after[name] - before[name]).abs().max()) for name in after))
    assert ends[1] < 1e-4 * ends[0]


def test_mixed_precision_runs(loader):
    ends = []
    for use_amp in (False, True):
        torch.manual_seed(0)
        model = fresh()
        model.fit(loader, use_amp=use_amp, optimizer_params={"lr": 1e-3}, **QUIET)
        ends.append(weights(model))
    largest = max(float((ends[0][name] - ends[1][name]).abs().max()) for name in ends[0])
    assert 0 < largest < 0.01


# --- evaluation, callback, saving -----------------------------------------------------------------


def test_the_best_model_is_saved_and_the_last_one_kept(loader, tmp_path):
    saved = []
    model = fresh()
    evaluator = Answers(0.2, 0.9, 0.5)
    seen = []

    def callback(score, epoch, steps):
        seen.append((score, epoch, steps))
        saved.append(weights(model))

    model.fit(
        loader,
        evaluator,
        epochs=3,
        output_path=tmp_path,
        callback=callback,
        optimizer_params={"lr": 1e-3},
        **QUIET,
    )
    assert seen == [(0.2, 0, -1), (0.9, 1, -1), (0.5, 2, -1)]
    assert evaluator.calls == [(tmp_path, 0, -1), (tmp_path, 1, -1), (tmp_path, 2, -1)]
    assert same(weights(CrossEncoder(tmp_path, device="cpu")), saved[1])
    assert same(weights(model), saved[2])
    assert not same(saved[1], saved[2])


def test_evaluations_within_an_epoch_and_at_its_end(samples, model):
    evaluator = Answers(*range(6))
    model.fit(DataLoader(samples, batch_size=3), evaluator, epochs=2, evaluation_steps=3, **QUIET)  # 4 steps an epoch
    assert [(epoch, steps) for _, epoch, steps in evaluator.calls] == [(0, 3), (0, -1), (1, 3), (1, -1)]


def test_without_an_evaluator_the_last_model_is_saved(loader, model, tmp_path):
    model.fit(loader, output_path=tmp_path / "new" / "model", optimizer_params={"lr": 1e-3}, **QUIET)
    assert same(weights(CrossEncoder(tmp_path / "new" / "model", device="cpu")), weights(model))


def test_nothing_is_saved_where_nothing_was_asked_for(loader, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model.fit(loader, Answers(0.1), **QUIET)
    model.fit(loader, Answers(0.1), save_best_model=False, output_path="out", **QUIET)
    assert [path.name for path in tmp_path.rglob("*")] == ["out"]


def test_a_score_that_is_not_a_number_saves_no_model(loader, model, tmp_path):
    model.fit(loader, Answers(math.nan), output_path=tmp_path, **QUIET)
    assert list(tmp_path.iterdir()) == []


def test_an_evaluator_that_gives_a_dict_goes_by_its_primary_metric(loader, model, tmp_path):
    seen = []
    data = sentences(8)
    evaluator = LaterEvaluator(data.texts, data.labels.tolist(), name="dev")
    model.fit(loader, evaluator, callback=lambda score, epoch, steps: seen.append(score), output_path=tmp_path, **QUIET)
    assert seen == [evaluator(model)["dev_spearman"]]
    assert (tmp_path / "CrossEncoderCorrelationEvaluator_dev_results.csv").is_file()
    assert (tmp_path / "model.safetensors").is_file()


def test_the_csv_survives_the_saving_of_the_model(samples, loader, model, tmp_path):
    evaluator = CECorrelationEvaluator.from_input_examples(samples)
    model.fit(loader, evaluator, epochs=2, output_path=tmp_path, **QUIET)
    rows = (tmp_path / "CECorrelationEvaluator_results.csv").read_text().splitlines()
    assert rows[0] == "epoch,steps,Pearson_Correlation,Spearman_Correlation"
    assert len(rows) == 3


@pytest.mark.parametrize(("shown", "expected"), [(True, True), (False, False)])
def test_the_progress_bar(loader, model, capsys, shown, expected):
    model.fit(loader, warmup_steps=0, show_progress_bar=shown)
    assert ("3/3" in capsys.readouterr().err) is expected


def test_labels_that_do_not_fit_are_named_before_training(samples, model):
    samples[7].label = 4
    with pytest.raises(DataError, match="row 7: the label is 4"):
        model.fit(DataLoader(samples, batch_size=4), **QUIET)
    three = fresh(3)
    with pytest.raises(DataError, match=r"row 0: the label is 0.3, and cross_entropy takes classes"):
        three.fit(DataLoader(samples, batch_size=4), **QUIET)


def test_predict_takes_the_keywords_of_both_generations(model):
    pairs = [["a", "b"], ["c d", "e"]]
    older = model.predict(pairs, 32, False, 0, nn.Identity(), False, True, False)
    later = model.predict(pairs, activation_fn=nn.Identity())
    assert np.array_equal(older, later)
    assert torch.is_tensor(model.predict(pairs, convert_to_tensor=True))
    three = fresh(3)
    assert three.predict(pairs, apply_softmax=True).sum(axis=1) == pytest.approx([1, 1], abs=1e-6)
