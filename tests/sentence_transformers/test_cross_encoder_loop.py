"""`fit` is the plain loop over the loader's batches."""

from __future__ import annotations

import pytest
import torch
from small_peer import QUIET, fresh, same, weights
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, SequentialSampler

from crossenc_kit import InputExample

pytestmark = pytest.mark.filterwarnings("ignore:the head of")  # untrained on purpose


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
