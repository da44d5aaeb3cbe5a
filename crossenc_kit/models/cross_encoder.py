"""`CrossEncoder`: a tokenizer and a Hugging Face classifier that reads two texts together."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from crossenc_kit.data.documents import Documents, Hits, rank_candidates
from crossenc_kit.data.pairs import Pairs, as_text_pairs
from crossenc_kit.errors import TruncationWarning
from crossenc_kit.files import replace_folder
from crossenc_kit.history import html_table
from crossenc_kit.models.adapters import is_wrapped, plain_weights, unwrap
from crossenc_kit.models.backbones import find_backbone, quiet_transformers
from crossenc_kit.models.card import model_card
from crossenc_kit.models.devices import (
    CPU_TOKENS,
    GPU_TOKENS,
    best_device,
    check_device,
    in_halves,
    side_by_side,
)
from crossenc_kit.models.loading import MODEL_FILES, load_classifier, load_tokenizer, save_weights
from crossenc_kit.models.settings import (
    SBERT_CONFIG,
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
from crossenc_kit.scorers import config_label_names, warn_at_call

if TYPE_CHECKING:
    from torch import Tensor


class CrossEncoder:
    """A model that reads two texts together and gives the pair `num_labels` scores.

    Arguments are named as in sentence-transformers; its older names work too. Beside them:

    label_names: the classes' names in index order
    seed: of the random weights of a new head
    truncation: "longest_first", or "only_second", which never cuts the first text
    backend: "torch", "int8", "onnx" or "onnx-int8" (see `export_model`; all but the first only score,
        on a CPU); by default what the folder holds

    Raises `BackboneError` if the model cannot be loaded, `ValueError` if the tokenizer has no padding.
    """

    _head: tuple[Any, bool]  # the writes to the weights, and `untrained_head` after them

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
        given: dict[str, Any] = {"model_name_or_path": model_name_or_path, "model_kwargs": model_kwargs}
        given |= {"tokenizer_kwargs": tokenizer_kwargs, "config_kwargs": config_kwargs}
        given |= {"cache_folder": cache_folder, "activation_fn": activation_fn}
        given = merge_spellings(given, old)
        if given["model_name_or_path"] is None:
            raise TypeError("CrossEncoder needs a model: a folder, a hub name, 'minilm' or 'tiny'")
        self.name = os.fspath(given["model_name_or_path"])
        backbone = find_backbone(
            self.name,
            cache_dir=given["cache_folder"],
            trust_remote_code=trust_remote_code,
            revision=revision,
            local_files_only=local_files_only,
            token=token,
        ).without_network()
        num_labels = len(label_names) if num_labels is None and label_names else num_labels
        changes = dict(given["config_kwargs"] or {})
        for name, value in (("num_labels", num_labels), ("classifier_dropout", classifier_dropout)):
            changes |= {} if value is None else {name: value}
        self.folder = backbone.folder
        loaded = load_classifier(backbone, changes, given["model_kwargs"] or {}, seed, backend)
        self.model, self.new_head, self.backend = loaded
        self._head = (self._writes(), True)
        self.tokenizer = load_tokenizer(backbone, given["tokenizer_kwargs"] or {}, self.config)
        self.max_length = longest_input(self.model, self.tokenizer, max_length)
        self.truncation = find_rule(truncation, backbone.json(SBERT_CONFIG))
        chosen = find_activation(given["activation_fn"])
        self.activation_fn = chosen or saved_activation(self.config, backbone)
        self.card: dict[str, Any] = {"base_model": self.name}
        self.truncated = 0  # pairs cut by the last `tokenize`
        self.name_labels(label_names or ())
        self.to(device or best_device(self.backend))

    @property
    def model(self) -> Any:
        """Return the Hugging Face classifier, perhaps in an adapter's wrapper; it may be replaced."""
        return self._model

    @model.setter
    def model(self, model: Any) -> None:
        self._model = model
        # What runs: the classifier inside the wrapper of an adapter whose layers it holds.
        self.network = unwrap(model) if hasattr(model, "peft_config") else model
        self._head = (None, False)

    @property
    def config(self) -> Any:
        """Return the Hugging Face configuration."""
        return self.model.config

    @property
    def num_labels(self) -> int:
        """Return the number of scores per pair (C)."""
        return int(self.config.num_labels)

    @property
    def label_names(self) -> tuple[str, ...]:
        """Return the classes' names in index order (`id2label`); empty if the model has none."""
        return config_label_names(self.config)

    def name_labels(self, names: Sequence[str]) -> None:
        """Name the classes; raises `DataError` if the model already has other names.

        A model with one score has no classes: the names of 0 and 1 go only into its card.
        """
        if names and self.num_labels > 1:
            name_labels(self.config, names, anew=self.untrained_head)
        if names:
            self.card["label_names"] = list(names)

    @property
    def untrained_head(self) -> bool:
        """Tell whether the head still has the random weights it started with.

        They are compared only after something wrote to the weights: torch counts writes to a tensor,
        except those of fused optimizers, for which `scores` makes us look again.
        """
        if not self.new_head:
            return False
        writes = self._writes()
        if writes != self._head[0]:
            import torch

            wrapped = hasattr(self.model, "peft_config")
            now = plain_weights(self.model) if wrapped else self.model.state_dict()
            same = all(
                name in now and torch.equal(now[name], weight.to(now[name])) for name, weight in self.new_head.items()
            )
            self._head = (writes, same)
        return self._head[1]

    def warn_of_new_head(self) -> None:
        """Warn if the head still has random weights, so that its scores mean nothing yet."""
        if self.untrained_head:
            warn_at_call(f"the head of {self.name!r} is new and untrained: its scores mean nothing yet")

    def _writes(self) -> list[tuple[int, int]]:
        """List which tensors the weights are, and how often each was written to."""
        return [(id(w), 0 if w.is_inference() else w._version) for w in self.model.parameters()]

    @property
    def device(self) -> Any:
        return self.model.device

    def to(self, device: Any) -> CrossEncoder:
        """Move the weights to a device and return the model."""
        check_device(self.backend, device)
        self.model.to(device)
        return self

    def tokenize(self, pairs: Pairs | Sequence[tuple[str, str]]) -> Tokens:
        """Tokenise N pairs; warns (`TruncationWarning`) if pairs exceed `max_length` tokens."""
        tokens = tokenize(self.tokenizer, pairs, self.max_length, self.truncation)
        self.truncated = tokens.num_truncated
        if self.truncated:
            warn_at_call(
                f"{self.truncated} of {len(tokens)} pairs exceed max_length={self.max_length} tokens "
                f"and were cut (by {int(tokens.dropped.max())} tokens at most)",
                TruncationWarning,
            )
        return tokens

    def scores(self, tokens: Tokens, rows: np.ndarray) -> Tensor:
        """Score some rows of tokenised pairs: raw scores `(B, C)` in order, with gradients."""
        import torch

        from crossenc_kit.models.packed import forward, padding_of

        if torch.is_grad_enabled():  # this may be training: see `untrained_head`
            self._head = (None, False)
        return forward(self.network, tokens, rows, padding_of(self.network, self.tokenizer))

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

        Scores are float32 on the CPU, after `activation_fn` (default: what the saved model asks for,
        else sigmoid for one label and identity for several).

        batch_size: most pairs per batch; batches are otherwise counted in tokens (`token_budget`)
        threads: batches scored side by side on a CPU (default: as many as torch uses)
        num_workers: accepted and not needed

        Raises `DataError` for anything that is not a pair of strings.
        """
        pairs, single = as_text_pairs(sentences)
        self.warn_of_new_head()
        asked = activation_fn or activation_fct
        activation = find_activation(asked) if asked else self.activation_fn
        scores = self._raw_scores(pairs, batch_size, token_budget, threads, show_progress_bar)
        scores = activation(scores).detach()  # type: ignore[misc]  # (N, C)
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
        self,
        pairs: Any,
        batch_size: int | None,
        token_budget: int | None,
        threads: int | None,
        progress: bool | None,
    ) -> Tensor:
        """Score N pairs batch by batch: raw scores `(N, C)`, float32 on the CPU."""
        import torch
        from tqdm import tqdm

        tokens = self.tokenize(pairs)
        scores = torch.empty(len(tokens), self.num_labels)
        on_cpu = self.device.type == "cpu"
        usual = CPU_TOKENS[self.backend] if on_cpu else GPU_TOKENS
        budget = usual if token_budget is None else token_budget
        batches = list(length_batches(tokens.lengths, budget, batch_size))
        threads = one_or_more("threads", threads) or torch.get_num_threads()
        hide = not progress if progress is not None else not sys.stderr.isatty()
        delay = 0 if progress else 2  # seconds: a bar that nobody asked for waits
        bar = tqdm(total=len(tokens), unit="pair", desc="scoring", disable=hide, delay=delay)

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
                side_by_side(work, batches, min(threads, len(batches)) if on_cpu else 1)
        finally:
            self.model.train(was_training)
        return scores

    def rank(
        self,
        query: str,
        documents: Documents,
        top_k: int | None = None,
        return_documents: bool = False,
        **predict_options: Any,
    ) -> Hits:
        """Order documents from best to worst: `[{"corpus_id": index, "score": float}]`.

        documents: texts, `{id: text}`, or dicts, whose id and metadata then go into the hits
        top_k: hits to return, all by default
        return_documents: put the texts into the hits

        Raises `ValueError` for a model with several labels.
        """
        return self.rank_many([query], [documents], top_k, return_documents, **predict_options)[0]

    def rank_many(
        self,
        queries: Sequence[str],
        documents: Sequence[Documents],
        top_k: int | None = None,
        return_documents: bool = False,
        **predict_options: Any,
    ) -> list[Hits]:
        """Rank the own K documents of each of Q queries in one go; raw scores break ties."""
        if self.num_labels != 1:
            raise ValueError(f"ranking needs one score per pair; this model has num_labels={self.num_labels}")
        asked = predict_options.get("activation_fn") or predict_options.get("activation_fct")
        shown = activated(asked or self.activation_fn)
        raw = {"activation_fn": "identity", "convert_to_numpy": True, "convert_to_tensor": False}
        options = {**predict_options, **raw}
        return rank_candidates(
            lambda pairs: self.predict(pairs, **options), queries, documents, top_k, return_documents, shown
        )

    def save_pretrained(self, path: str | os.PathLike, **options: Any) -> None:
        """Write a plain Hugging Face folder: weights, configuration, tokenizer, model card.

        The folder appears whole or not at all. A PEFT model saves only its adapter; raises
        `ValueError` if that does not hold all new weights of the head.
        """
        remember_settings(self.model, self.tokenizer, self.activation_fn, self.max_length)
        card = {**self.card, "adapter": is_wrapped(self.model)}
        with replace_folder(path, MODEL_FILES) as partial, quiet_transformers():
            save_weights(self.model, self.backend, partial, self.new_head, **options)
            self.tokenizer.save_pretrained(partial)
            save_rule(partial, self.truncation)
            text = model_card(card, self.num_labels, self.max_length)
            (partial / "README.md").write_text(text, encoding="utf-8")

    save = save_pretrained

    def push_to_hub(self, repo_id: str, *, private: bool | None = None, token: Any = None, **options: Any) -> Any:
        """Upload the saved model, card included, in one commit of `repo_id`.

        options: for `huggingface_hub.HfApi.upload_folder` (`commit_message`, `revision`, `create_pr`)
        """
        from huggingface_hub import HfApi

        hub = HfApi(token=token)
        hub.create_repo(repo_id, private=private, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            place = os.path.join(folder, "model")
            self.save_pretrained(place)
            return hub.upload_folder(repo_id=repo_id, folder_path=place, **options)

    def _size(self) -> str:
        if self.backend.startswith("onnx"):
            return f"{self.model.path.stat().st_size / 1e6:.1f} MB"
        return f"{sum(weight.numel() for weight in self.model.parameters()) / 1e6:.1f} M parameters"

    def __repr__(self) -> str:
        kind = [type(self.model).__name__, *([self.backend] if self.backend != "torch" else [])]
        facts = [*kind, self._size(), f"num_labels={self.num_labels}", str(self.device)]
        return f"CrossEncoder({self.name!r}: {', '.join(facts)})"

    def _repr_html_(self) -> str:
        facts = {
            "model": f"{type(self.model).__name__}, {self._size()}",
            "scores per pair": self.num_labels,
            "classes": ", ".join(self.label_names) or "no names",
            "activation": repr(self.activation_fn),
            "longest input": f"{self.max_length} tokens, truncation {self.truncation}",
            "head": "new and untrained" if self.untrained_head else "loaded or trained",
            "runs on": f"{self.device}, backend {self.backend}",
        }
        return html_table(("CrossEncoder", self.name), facts.items())
