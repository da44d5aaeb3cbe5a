"""`CrossEncoder`: a tokenizer and a Hugging Face sequence classifier that reads two texts together."""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from crossenc_kit.data.documents import Documents, rank_candidates
from crossenc_kit.data.pairs import Pairs, as_text_pairs
from crossenc_kit.errors import TruncationWarning
from crossenc_kit.files import replace_folder
from crossenc_kit.models.adapters import is_wrapped
from crossenc_kit.models.backbones import find_backbone, quiet_transformers, read_json
from crossenc_kit.models.card import model_card
from crossenc_kit.models.devices import (
    backend_of,
    best_device,
    checked_device,
    cpu_tokens,
    describe,
    in_halves,
    side_by_side,
)
from crossenc_kit.models.loading import MODEL_FILES, is_unchanged, load_classifier, load_tokenizer, save_weights
from crossenc_kit.models.settings import (
    SETTINGS,
    activated,
    find_activation,
    find_rule,
    longest_input,
    merge_spellings,
    name_labels,
    remember_settings,
    save_rule,
    saved_activation,
)
from crossenc_kit.models.tokens import Tokens, length_batches, one_or_more, tokenize
from crossenc_kit.scorers import config_label_names

if TYPE_CHECKING:
    from torch import Tensor

GPU_TOKENS = 65536  # per batch


class CrossEncoder:
    """A model that reads two texts together and scores the pair; `num_labels` scores a pair.

    The constructor takes the names of sentence-transformers: the later ones, and the older
    `automodel_args`, `tokenizer_args`, `default_activation_function`, `classifier_dropout`.
    `label_names` are the classes' names in index order. `seed` fixes the initial weights of a new head. `truncation`:
    "longest_first" or "only_second", which never cuts the first text. Raises `BackboneError` where the base model
    cannot be had, `ValueError` where the tokenizer has no padding token. `backend`: "torch", "int8", "onnx" or
    "onnx-int8" (see `export`), by default what the folder holds; all but the first are for scoring on a CPU.
    """

    def __init__(
        self,
        model_name_or_path: str | os.PathLike | None = None,
        num_labels: int | None = None,
        max_length: int | None = None,
        *,
        activation_fn: Callable | str | None = None,
        device: Any = None,
        cache_folder: str | None = None,
        trust_remote_code: bool = False,
        revision: str | None = None,
        local_files_only: bool = False,
        token: bool | str | None = None,
        model_kwargs: dict[str, Any] | None = None,
        tokenizer_kwargs: dict[str, Any] | None = None,
        config_kwargs: dict[str, Any] | None = None,
        classifier_dropout: float | None = None,
        label_names: Sequence[str] | None = None,
        truncation: str | None = None,
        seed: int | None = None,
        backend: str | None = None,
        **old: Any,
    ):
        given: dict[str, Any] = {
            "model_name_or_path": model_name_or_path,
            "model_kwargs": model_kwargs,
            "tokenizer_kwargs": tokenizer_kwargs,
            "config_kwargs": config_kwargs,
            "cache_folder": cache_folder,
            "activation_fn": activation_fn,
        }
        given = merge_spellings(given, old)
        if given["model_name_or_path"] is None:
            raise TypeError("CrossEncoder needs a model: a folder, a hub name, 'minilm' or 'tiny'")
        self.name = os.fspath(given["model_name_or_path"])
        where = {
            "cache_dir": given["cache_folder"],
            "trust_remote_code": trust_remote_code,
            "revision": revision,
            "local_files_only": local_files_only,
            "token": token,
        }
        changes, kwargs = {**(given["config_kwargs"] or {})}, given["model_kwargs"] or {}
        if num_labels is not None or label_names:
            changes["num_labels"] = num_labels if num_labels is not None else len(label_names or ())
        if classifier_dropout is not None:
            changes["classifier_dropout"] = classifier_dropout
        self.folder = find_backbone(self.name)
        self.model, self.new_head = load_classifier(self.folder, where, changes, kwargs, seed, backend)
        self.tokenizer = load_tokenizer(self.folder, where, given["tokenizer_kwargs"] or {}, self.model.config)
        self.max_length = longest_input(self.model, self.tokenizer, max_length)
        self.truncation = find_rule(truncation, read_json(self.folder, SETTINGS, where))
        chosen = find_activation(given["activation_fn"])
        self.activation_fn = chosen or saved_activation(self.model.config, self.folder, where)
        self.card: dict[str, Any] = {"base_model": self.name}
        self.truncated = 0  # pairs cut by the last `tokenize`
        self.name_labels(label_names or ())
        self.to(device or best_device(self.model))

    @property
    def config(self) -> Any:
        """The Hugging Face configuration."""
        return self.model.config

    @property
    def num_labels(self) -> int:
        """Scores a pair gets (C)."""
        return int(self.model.config.num_labels)

    @property
    def label_names(self) -> tuple[str, ...]:
        """The classes' names in index order, empty where they have none; saved with the model (`id2label`)."""
        return config_label_names(self.config)

    def name_labels(self, names: Sequence[str]) -> None:
        """Give the classes names, or check them against those there are; raises `DataError` where they differ.

        A model with one score has no classes of its own: the names of 0 and 1 are told in its card only.
        """
        if names and self.num_labels > 1:
            name_labels(self.config, names, anew=self.untrained_head)
        if names:
            self.card["label_names"] = list(names)

    @property
    def untrained_head(self) -> bool:
        """Whether the head still has the random weights that it started with."""
        return is_unchanged(self.model, self.new_head)

    @property
    def device(self) -> Any:
        return self.model.device

    @property
    def backend(self) -> str:
        return backend_of(self.model)

    def to(self, device: Any) -> CrossEncoder:
        """Move the weights to a device and return the model."""
        self.model.to(checked_device(self.model, device))
        return self

    def tokenize(self, pairs: Pairs | Sequence[tuple[str, str]]) -> Tokens:
        """The token ids of N pairs; warns (`TruncationWarning`) where pairs exceed `max_length`."""
        tokens = tokenize(self.tokenizer, pairs, self.max_length, self.truncation)
        self.truncated = tokens.num_truncated
        if self.truncated:
            worst = int(tokens.dropped.max())
            warnings.warn(
                f"{self.truncated} of {len(tokens)} pairs exceed max_length={self.max_length} tokens and were cut "
                f"(by {worst} tokens at most)",
                TruncationWarning,
                stacklevel=4,  # the line that called `predict` or `train`
            )
        return tokens

    def scores(self, tokens: Tokens, rows: np.ndarray) -> Tensor:
        """Raw scores `(B, C)` of some rows of tokenised pairs, in their order; gradients flow."""
        from crossenc_kit.models.packed import forward, padding_of

        return forward(self.model, tokens, rows, padding_of(self.model, self.tokenizer))

    def predict(
        self,
        sentences: Any,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        num_workers: int = 0,
        activation_fct: Callable | None = None,
        apply_softmax: bool | None = False,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        *,
        activation_fn: Callable | str | None = None,
        token_budget: int | None = None,
        threads: int | None = None,
    ) -> Any:
        """Score one pair or N pairs: `(N,)` for one label, `(N, C)` for several, in input order.

        Scores are float32 on the CPU after `activation_fn` (default: sigmoid for one label unless the
        saved model says otherwise, identity for several). Batches are counted in tokens
        (`token_budget`); `batch_size` caps the pairs in one. On a CPU, `threads` batches are scored
        side by side (default: as many as torch uses). `num_workers` is accepted and not needed.
        Raises `DataError` for anything that is not a pair of strings.
        """
        pairs, single = as_text_pairs(sentences)
        if self.untrained_head:
            warnings.warn(f"the head of {self.name!r} is new and untrained: its scores mean nothing yet", stacklevel=2)
        activation = find_activation(activation_fn or activation_fct) or self.activation_fn
        scores = self._raw_scores(pairs, batch_size, token_budget, threads, show_progress_bar)
        scores = activation(scores).detach()
        if apply_softmax and self.num_labels > 1:
            scores = scores.softmax(dim=1)
        scores = scores[:, 0] if self.num_labels == 1 else scores
        if single:
            scores = scores[0]
        if convert_to_tensor:
            return scores
        return scores.numpy() if convert_to_numpy else list(scores)

    __call__ = predict

    def _raw_scores(
        self, pairs: Any, batch_size: int | None, token_budget: int | None, threads: int | None, progress: bool | None
    ) -> Tensor:
        import torch
        from tqdm import tqdm

        tokens = self.tokenize(pairs)
        scores = torch.empty(len(tokens), self.num_labels)
        on_cpu = self.device.type == "cpu"
        usual = cpu_tokens(self.model) if on_cpu else GPU_TOKENS
        batches = list(length_batches(tokens.lengths, usual if token_budget is None else token_budget, batch_size))
        hide = not progress if progress is not None else not sys.stderr.isatty()
        bar = tqdm(total=len(tokens), unit="pair", desc="scoring", disable=hide, delay=0 if progress else 2)
        threads = min(one_or_more("threads", threads) or torch.get_num_threads(), len(batches)) if on_cpu else 1

        @torch.inference_mode()
        def write(rows: np.ndarray) -> None:
            scores[torch.as_tensor(rows)] = self.scores(tokens, rows).float().cpu()

        def work(rows: np.ndarray) -> None:
            in_halves(write, rows)
            bar.update(len(rows))

        was_training = self.model.training
        self.model.eval()
        try:
            with bar:
                side_by_side(work, batches, threads)
        finally:
            self.model.train(was_training)
        return scores

    def rank(
        self,
        query: str,
        documents: Documents,
        top_k: int | None = None,
        return_documents: bool = False,
        **options: Any,
    ) -> list[dict[str, Any]]:
        """Documents from best to worst: `[{"corpus_id": index, "score": float, "text": if asked}]`.

        Of documents that are `{id: text}` or dicts a hit also has id and metadata, see `ranking.rank_candidates`;
        `options` go to `predict`. Raises `ValueError` for a model with several labels.
        """
        return self.rank_many([query], [documents], top_k, return_documents, **options)[0]

    def rank_many(
        self,
        queries: Sequence[str],
        documents: Sequence[Documents],
        top_k: int | None = None,
        return_documents: bool = False,
        **options: Any,
    ) -> list[list[dict[str, Any]]]:
        """`rank` for Q queries with their own K candidates each, scored in one go; of equal scores raw ones decide."""
        if self.num_labels != 1:
            raise ValueError(f"ranking needs one score a pair, this model has num_labels={self.num_labels}")
        shown = activated(options.get("activation_fn") or options.get("activation_fct") or self.activation_fn)
        options |= {"activation_fn": "identity", "convert_to_numpy": True, "convert_to_tensor": False}
        return rank_candidates(lambda p: self.predict(p, **options), queries, documents, top_k, return_documents, shown)

    def save_pretrained(self, path: str | os.PathLike, **options: Any) -> None:
        """Write a plain Hugging Face folder: weights, configuration, tokenizer, model card.

        The folder appears whole or not at all: it is written beside its place and moved there. Of a model with an
        adapter (see `adapters`), the adapter is written; `ValueError` where it does not hold all that is new.
        """
        remember_settings(self.model, self.tokenizer, self.activation_fn, self.max_length)
        card = {**self.card, "adapter": is_wrapped(self.model)}
        with replace_folder(path, MODEL_FILES) as partial, quiet_transformers():
            save_weights(self.model, partial, self.new_head, **options)
            self.tokenizer.save_pretrained(partial)
            save_rule(partial, self.truncation)
            (partial / "README.md").write_text(model_card(card, self.num_labels, self.max_length), encoding="utf-8")

    save = save_pretrained

    def push_to_hub(self, repo_id: str, *, private: bool | None = None, token: Any = None, **options: Any) -> Any:
        """Save to a temporary folder and upload it whole, model card included, in one commit of `repo_id`.

        `options` go to `huggingface_hub.HfApi.upload_folder` (`commit_message`, `revision`, `create_pr`).
        """
        from huggingface_hub import HfApi

        hub = HfApi(token=token)
        hub.create_repo(repo_id, private=private, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(os.path.join(folder, "model"))
            return hub.upload_folder(repo_id=repo_id, folder_path=os.path.join(folder, "model"), **options)

    def __repr__(self) -> str:
        return f"CrossEncoder({self.name!r}: {describe(self.model)}, {self.device})"
