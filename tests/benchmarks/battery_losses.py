"""The battery's items of losses: value and gradient on fixed tensors."""

from __future__ import annotations

from typing import Any

import torch
from battery_adapters import item, kit

LIST_OPTIONS: dict[str, list[dict[str, Any]]] = {
    "multiple_negatives": [{}, {"scale": 3.0, "sigmoid": False}],
    "kl_divergence": [{}, {"temperature": 2.5}],
    "ranknet": [{}, {"sigma": 2.0, "mean_over": "pairs"}],
    "lambda_loss": [{"weighting": own} for own in ("ndcg_loss1", "ndcg_loss2", "lambda_rank", "ndcg_loss2pp")]
    + [{"k": 3, "sigma": 2.0, "mu": 5.0}, {"mean_over": "pairs"}],
    "margin_mse": [{}, {"against_first": True}],
    "adr_mse": [{}, {"alpha": 2.0}],
    "approx_ndcg": [{}, {"temperature": 0.3}],
}
PAIR_OPTIONS: dict[str, list[dict[str, Any]]] = {
    "bce": [{}, {"positive_weight": 2.5}],
    "mse": [{}],
    "sigmoid_mse": [{}],
    "cross_entropy": [{}, {"class_weights": [1.0, 2.0, 0.5], "label_smoothing": 0.1}],
    "class_kl_divergence": [{}, {"temperature": 3.0}],
}


def loss_told(name: str, options: dict[str, Any], scores: Any, *rest: Any) -> list[Any]:
    """Value and gradient of a loss on fixed tensors."""
    loss = kit.loss_with(name, **options)
    scores = scores.clone().requires_grad_()
    value = loss.function(scores, *rest, **loss.options)
    value.backward()
    return [value, scores.grad]


@item("losses: every loss of lists, value and gradient")
def _() -> Any:
    draw = torch.Generator().manual_seed(7)
    scores = 3 * torch.randn(5, 7, generator=draw)
    sizes = torch.tensor([7, 2, 5, 1, 6])
    mask = torch.arange(7)[None, :] < sizes[:, None]
    grades = torch.randint(0, 4, (5, 7), generator=draw).float() * mask
    one = torch.zeros(5, 7)
    one[torch.arange(5), sizes - 1] = 1.0
    teacher = torch.randn(5, 7, generator=draw)
    found = {}
    for name in sorted(kit.RANKING_LOSSES):
        labels = {"multiple_negatives": one, "kl_divergence": teacher, "margin_mse": teacher}.get(name, grades)
        for options in LIST_OPTIONS.get(name, [{}]):
            found[f"{name} {options}"] = loss_told(name, options, scores, labels, mask)
    return found


@item("losses: every loss of pairs, value and gradient")
def _() -> Any:
    draw = torch.Generator().manual_seed(8)
    flat, wide = 3 * torch.randn(9, generator=draw), 3 * torch.randn(9, 3, generator=draw)
    shares, classes = torch.rand(9, generator=draw), torch.arange(9) % 3
    labels = {"cross_entropy": classes, "class_kl_divergence": torch.randn(9, 3, generator=draw)}
    found = {}
    for name, every in PAIR_OPTIONS.items():
        for options in every:
            scores = wide if name in labels else flat
            found[f"{name} {options}"] = loss_told(name, options, scores, labels.get(name, shares))
    found["soft classes"] = loss_told("cross_entropy", {}, wide, torch.softmax(wide.flip(0), 1))
    return found


@item("losses: mixed with gold, value and gradient")
def _() -> Any:
    draw = torch.Generator().manual_seed(9)
    scores, both = torch.randn(4, 5, generator=draw), torch.rand(4, 5, 2, generator=draw)
    mask = torch.arange(5)[None, :] < torch.tensor([5, 2, 3, 4])[:, None]
    found = []
    for loss in (
        kit.distillation_loss("margin_mse", gold="listnet", alpha=0.3),
        kit.distillation_loss("kl_divergence", gold="bce", temperature=2.0),
    ):
        own = scores.clone().requires_grad_()
        value = loss.apply(own, both, mask)
        value.backward()
        found += [value, own.grad]
    return found


@item("losses: of hidden states and attention, value and gradient")
def _() -> Any:
    draw = torch.Generator().manual_seed(10)
    mask = torch.arange(6)[None, :] < torch.tensor([6, 3, 4])[:, None]
    hidden, attention = torch.randn(2, 3, 6, 8, generator=draw), torch.rand(2, 3, 2, 6, 6, generator=draw)
    attention = torch.softmax(attention.masked_fill(~mask[None, :, None, None, :], -1e9), -1)
    found = []
    for name, states in (("hidden_mse", hidden), ("attention_mse", attention), ("attention_kl", attention)):
        own = states[0].clone().requires_grad_()
        value = getattr(kit, name)(own, states[1], mask)
        value.backward()
        found += [value, own.grad]
    return found
