"""The call style of sentence-transformers 3.x: `CrossEncoder` with `model.fit(train_dataloader=...)`.

Code written for it runs with the import line changed. `fit` is a thin layer: its arguments become a
`TrainingConfig`, and the kit's one training loop does the rest. If 3.4 and later versions differ,
`fit` follows 3.4, with two exceptions: it saves the last model if nothing evaluates, and it warns of
a warm-up longer than the training.
"""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from crossenc_kit.data.pairs import as_pairs
from crossenc_kit.losses.distillation import MixedLoss
from crossenc_kit.losses.loss import Loss, check_activation, find_loss
from crossenc_kit.models import cross_encoder
from crossenc_kit.training.config import TrainingConfig
from crossenc_kit.training.loop import train


class CrossEncoder(cross_encoder.CrossEncoder):
    """A model that reads two texts together and gives the pair `num_labels` scores.

    The arguments are those of sentence-transformers 3.4, in its order. If an argument is given under
    both its older and its later name, the later counts, with a warning.

    options: the later names, and the kit's `seed` and `label_names`; see `models.CrossEncoder`
    """

    def __init__(
        self,
        model_name: str | os.PathLike | None = None,
        num_labels: int | None = None,
        max_length: int | None = None,
        device: Any = None,
        automodel_args: dict[str, Any] | None = None,
        tokenizer_args: dict[str, Any] | None = None,
        config_args: dict[str, Any] | None = None,
        cache_dir: str | None = None,
        trust_remote_code: bool = False,
        revision: str | None = None,
        local_files_only: bool = False,
        default_activation_function: Callable | None = None,
        classifier_dropout: float | None = None,
        **options: Any,
    ):
        older: dict[str, Any] = {"model_name": model_name, "automodel_args": automodel_args}
        older |= {"tokenizer_args": tokenizer_args, "config_args": config_args, "cache_dir": cache_dir}
        older |= {"default_activation_function": default_activation_function}
        super().__init__(
            num_labels=num_labels,
            max_length=max_length,
            device=device,
            trust_remote_code=trust_remote_code,
            revision=revision,
            local_files_only=local_files_only,
            classifier_dropout=classifier_dropout,
            **{name: value for name, value in older.items() if value is not None},
            **options,
        )

    @property
    def default_activation_function(self) -> Callable:
        """Return `activation_fn`, under its older name."""
        return self.activation_fn

    def fit(
        self,
        train_dataloader: Any,
        evaluator: Callable[..., Any] | None = None,
        epochs: int = 1,
        loss_fct: Callable[..., Any] | None = None,
        activation_fct: Callable[..., Any] | None = None,
        scheduler: Any = "WarmupLinear",
        warmup_steps: int = 10000,
        optimizer_class: Any = None,
        optimizer_params: Mapping[str, Any] | None = None,
        weight_decay: float = 0.01,
        evaluation_steps: int = 0,
        output_path: str | os.PathLike | None = None,
        save_best_model: bool = True,
        max_grad_norm: float = 1.0,
        use_amp: bool = False,
        callback: Callable[[float, int, int], Any] | None = None,
        show_progress_bar: bool = True,
    ) -> None:
        """Train on a `DataLoader` over `InputExample`s, and save the best model in `output_path`.

        The loader's batches are used as they are. After `fit` the model holds its last weights.

        evaluator: called after each epoch, and every `evaluation_steps` steps within it
        loss_fct: `loss(logits, labels)`; by default BCE for one label, else cross-entropy
        activation_fct: applied to the logits before the loss
        scheduler: constantlr, or warmup followed by constant, linear, cosine or
            cosinewithhardrestarts, upper case or lower; or an object with `step()` and `get_last_lr()`
        use_amp: fp16 on a GPU, bf16 elsewhere
        callback: called as `callback(score, epoch, steps)`; steps is -1 at an epoch's end
        """
        data, batches, batch_size = read_loader(train_dataloader)
        params = dict(optimizer_params if optimizer_params is not None else {"lr": 2e-5})
        optimizer, rate = optimizer_with(optimizer_class, params)
        config = TrainingConfig(
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=rate,
            warmup_steps=warmup_steps,
            scheduler=scheduler if isinstance(scheduler, str) else schedule_of(scheduler),
            weight_decay=weight_decay,
            max_grad_norm=max_grad_norm,
            evaluation_steps=evaluation_steps,
            evaluate_epochs=True,
            precision=("fp16" if self.device.type == "cuda" else "bf16") if use_amp else None,
            restore_best=False,
            seed=draw_seed(),
        )
        steps, loss = len(batches(0)), loss_of(loss_fct, activation_fct, self.num_labels)
        fitting = Fitting(self, evaluator, output_path, save_best_model, callback, steps)
        evaluate = fitting.evaluate if evaluator is not None else None
        with progress_bar(steps * epochs, show_progress_bar) as fitting.bar:
            train(self, data, loss, config, evaluate, on_row=fitting.count, optimizer=optimizer, batches=batches)
        if evaluator is None and output_path is not None:
            self.save_pretrained(output_path)


@dataclass
class Fitting:
    """One call of `fit`: how far it is, and what it does at an evaluation."""

    model: CrossEncoder
    evaluator: Any
    output_path: Any
    save_best: bool
    callback: Any
    steps_per_epoch: int
    step: int = 0
    best: float = -math.inf
    bar: Any = None

    def count(self, row: dict[str, Any]) -> None:
        """Move the progress bar on by a step; a row without a loss is an evaluation."""
        if "loss" in row:
            self.step = row["step"]
            self.bar.set_postfix_str(f"loss {row['loss']:.4f}", refresh=False)
            self.bar.update()

    def evaluate(self, scorer: Any) -> float:
        """Call evaluator and callback, and save the model if it is the best so far."""
        epoch, within = divmod(self.step, self.steps_per_epoch)
        epoch, steps = (epoch, within) if within else (epoch - 1, -1)
        if self.output_path is not None:
            os.makedirs(self.output_path, exist_ok=True)
        answer = self.evaluator(scorer, output_path=self.output_path, epoch=epoch, steps=steps)
        score = float(answer[self.evaluator.primary_metric] if isinstance(answer, Mapping) else answer)
        if self.callback is not None:
            self.callback(score, epoch, steps)
        if score > self.best:
            self.best = score
            if self.save_best and self.output_path is not None:
                self.model.save_pretrained(self.output_path)
        return score


def read_loader(loader: Any) -> tuple[Any, Callable[[int], list[np.ndarray]], int]:
    """Return a `DataLoader`'s examples, its batches as a function of the epoch, and the largest size.

    Each epoch draws its batches from the loader's own sampler once, in turn. Raises `TypeError` if
    it is not a loader with batches.
    """
    from torch.utils.data import BatchSampler, IterableDataset

    if not hasattr(loader, "dataset") or getattr(loader, "batch_sampler", None) is None:
        expected = "a torch DataLoader over a list of InputExample, with a batch size"
        raise TypeError(f"train_dataloader must be {expected}; got {type(loader).__name__}")
    if isinstance(loader.dataset, IterableDataset):  # its order is the only one
        examples = list(loader.dataset)
        sampler = BatchSampler(range(len(examples)), loader.batch_size, drop_last=False)
    else:
        examples = [loader.dataset[i] for i in range(len(loader.dataset))]
        sampler = loader.batch_sampler
    drawn: list[list[np.ndarray]] = []

    def batches(epoch: int) -> list[np.ndarray]:
        while len(drawn) <= epoch:
            drawn.append([np.asarray(list(batch), dtype=np.int64) for batch in sampler])
        return drawn[epoch]

    return as_pairs(examples), batches, max((len(rows) for rows in batches(0)), default=1)


def loss_of(loss_fct: Any, activation_fct: Any, num_labels: int) -> Loss:
    """Make the loss for the training loop: the caller's or the usual one, after the activation.

    Raises `ValueError` for an activation that bounds the scores, such as a sigmoid, before a ranking
    loss.
    """
    known = find_loss(loss_fct or ("bce" if num_labels == 1 else "cross_entropy"))
    if activation_fct is None or type(activation_fct).__name__ == "Identity":
        return known
    if isinstance(known, MixedLoss):
        parts = (known.options["distillation"], known.options["gold"])
        return known.with_parts(*(loss_of(part, activation_fct, num_labels) for part in parts))
    check_activation(known, activation_fct)

    def activated(scores: Any, labels: Any, *mask: Any) -> Any:
        return known.apply(activation_fct(scores), labels, *mask)

    activated.__name__ = f"{known.name} of {type(activation_fct).__name__}"
    return replace(known, function=activated, options={})


def optimizer_with(kind: Any, params: Mapping[str, Any]) -> tuple[Callable[[list[dict[str, Any]]], Any], float]:
    """Return a function that makes the optimizer (AdamW by default), and its peak learning rate."""
    import torch

    kind = kind or torch.optim.AdamW
    usual = inspect.signature(kind).parameters.get("lr")
    rate = params.get("lr", usual.default if usual is not None else None)
    if not isinstance(rate, (int, float)):
        raise ValueError(f"{kind.__name__} has no usual learning rate; give optimizer_params={{'lr': 2e-5}}")
    return lambda groups: kind(groups, **params), float(rate)


def schedule_of(scheduler: Any) -> Callable[[int], float]:
    """Turn a torch scheduler into a function: step -> its rate as a share of its first rate."""
    base = scheduler.base_lrs[0] if getattr(scheduler, "base_lrs", None) else scheduler.get_last_lr()[0]
    factors = [scheduler.get_last_lr()[0] / base]

    def factor(step: int) -> float:
        while len(factors) <= step:
            scheduler.optimizer.step()  # it holds no gradients; without it torch warns of the order of calls
            scheduler.step()
            factors.append(scheduler.get_last_lr()[0] / base)
        return factors[step]

    return factor


def draw_seed() -> int:
    """Draw a seed from torch's generator, so that `torch.manual_seed` fixes all of `fit`."""
    import torch

    return int(torch.randint(2**31, (1,)))


def progress_bar(total: int, shown: bool) -> Any:
    from tqdm.auto import tqdm

    return tqdm(total=total, unit="step", desc="training", disable=not shown)
