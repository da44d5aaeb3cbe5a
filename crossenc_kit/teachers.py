"""Teacher scores for distillation: computed once, kept on the disk, made into labels.

    scores = cached_scores(teacher, pairs, "cache", settings={"activation_fn": "identity"})
    student_data = with_teacher_scores(pairs, scores)

A teacher is any scorer, an `ensemble` of several too. Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural
Network", 2015; Hofstatter, Althammer, Schroder, Sertkan and Hanbury, "Improving Efficient Neural Ranking Models with
Cross-Architecture Knowledge Distillation", 2020.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from crossenc_kit.activations import with_module
from crossenc_kit.arrays import reordered
from crossenc_kit.evaluation import Scorer
from crossenc_kit.pairs import DataError, Pairs, as_pairs
from crossenc_kit.score_shards import open_shards, read_shard, texts_key, write_shard
from crossenc_kit.scorers import as_scorer, owner_of, without_unknown

# Settings that change how long scoring takes, not what comes out: not part of what a cache is looked up by.
SPEED = {"batch_size", "token_budget", "threads", "num_workers", "show_progress_bar"}
# What a configuration says of where it was, not of what the model computes; the activation is looked at by itself.
NOT_THE_MODEL = {"_name_or_path", "transformers_version", "architectures", "sentence_transformers"}
NOT_THE_MODEL |= {"sbert_ce_default_activation_function", "torch_dtype", "dtype", "problem_type", "use_cache"}


def cached_scores(
    scorer: Scorer,
    pairs: Any,
    folder: str | os.PathLike,
    *,
    teacher: str | None = None,
    shard_size: int = 1024,
    settings: Mapping[str, Any] | None = None,
    show_progress_bar: bool | None = None,
) -> np.ndarray:
    """The scores `(N,)` or `(N, C)` of N pairs, read from `folder` where they were computed before.

    The scorer gets `shard_size` pairs at a time, and `settings` as keyword arguments (of a `CrossEncoder`,
    `{"activation_fn": "identity"}` for raw scores). Each such shard is written whole or not at all, so that a killed
    run goes on where it was; a damaged shard is named in a warning and scored again. A shard is looked up by its
    texts, the settings (but for those of `SPEED`) and the teacher: for a `CrossEncoder` (this kit's, or
    sentence-transformers') or a `ScoringPool` of one by its fingerprint, see `teacher_fingerprint`; any other needs
    `teacher="name-and-version"`, which the caller changes whenever the scores would. So scores of another teacher
    are never taken, and pairs added at the end leave the full shards before them as they are.

    Two processes may use one folder: each takes what the other has finished; what both compute is kept once, the
    later writer's. The scores must not depend on what else is scored, so ensembles by rank are refused: cache their
    members. Raises `OSError` for a folder that cannot be written and a full disk, `DataError` for scores that are
    not finite or not one (row) a pair; the shards finished before stay.
    """
    if shard_size < 1:
        raise ValueError(f"shard_size must be at least 1 pair, got {shard_size}")
    if getattr(scorer, "depends_on_list", False):
        raise ValueError("the scores of this ensemble depend on the whole list: cache its members' scores, not its own")
    options, known = without_unknown(scorer, settings or {}, SPEED), _json_settings(settings or {})
    texts = as_pairs(pairs).texts
    place = open_shards(folder, {"teacher": _identity(scorer, teacher), "settings": known})
    return _score_blocks(scorer, texts, place, shard_size, options, show_progress_bar)


def _score_blocks(
    scorer: Scorer, texts: list[tuple[str, str]], place: Any, size: int, options: dict[str, Any], progress: bool | None
) -> np.ndarray:
    from tqdm import tqdm

    parts: list[np.ndarray] = []
    hide = not progress if progress is not None else not sys.stderr.isatty()
    model = _cross_encoder(scorer)
    if model is not None:
        options = {"show_progress_bar": False, **options}  # the bar of all shards is enough
    cut = scored = 0
    bar = tqdm(total=len(texts), unit="pair", desc="teacher scores", disable=hide)
    with bar, warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"\d+ of \d+ pairs exceed max_length")  # counted over all shards
        for start in range(0, len(texts), size):
            block = texts[start : start + size]
            key, where = texts_key(block), f"pairs {start} to {start + len(block) - 1}"
            scores = read_shard(place, key, len(block), where)
            if scores is None:
                scores = _score_block(scorer, block, start, options)
                write_shard(place, key, scores)
                cut, scored = cut + getattr(owner_of(scorer), "truncated", 0), scored + len(block)
            if parts and scores.shape[1:] != parts[0].shape[1:]:
                raise DataError(f"{where}: scores of shape {scores.shape[1:]} a pair, before {parts[0].shape[1:]}")
            parts.append(scores)
            bar.update(len(block))
    if cut:
        warnings.warn(f"{cut} of the {scored} pairs that were scored exceed the teacher's max_length", stacklevel=3)
    return np.concatenate(parts) if parts else np.zeros(0)


def _score_block(scorer: Scorer, block: list[tuple[str, str]], start: int, options: dict[str, Any]) -> np.ndarray:
    """One shard's scores, checked: finite, and one (or one row) a pair."""
    scores = np.asarray(as_scorer(scorer)(block, **with_module(options)))
    if scores.ndim not in (1, 2) or len(scores) != len(block):
        raise DataError(f"the teacher gave scores of shape {scores.shape} for {len(block)} pairs (from pair {start})")
    scores = np.ascontiguousarray(scores if scores.dtype in (np.float32, np.float64) else scores.astype(np.float64))
    bad = np.flatnonzero(~np.isfinite(scores.reshape(len(block), -1)).all(axis=1))
    if len(bad):
        left, right = block[bad[0]]
        raise DataError(
            f"pair {start + bad[0]}: the teacher's score is {scores[bad[0]]} for {left[:40]!r}, {right[:40]!r} "
            f"({len(bad)} of these {len(block)} are not finite; nothing of them was kept)"
        )
    return scores


def _json_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that count, as JSON holds them; `ValueError` for one that it cannot hold."""
    known = {}
    for name, value in settings.items():
        try:
            if name not in SPEED:
                known[name] = json.loads(json.dumps(value))
        except (TypeError, ValueError):
            raise ValueError(
                f"settings[{name!r}] is {value!r}, which no cache can be looked up by; give a number, a string "
                '(activation_fn="identity"), True, False, None, or a list or dict of these'
            ) from None
    return known


def _identity(scorer: Any, name: str | None) -> dict[str, Any]:
    """What tells a teacher from others: the caller's name for it, a `CrossEncoder`'s fingerprint, or both."""
    if name is not None and not (isinstance(name, str) and name.strip()):
        raise ValueError(f'teacher is {name!r}; expected a name with a version, such as "bm25-k1=1.2"')
    try:
        return {"name": name, "fingerprint": teacher_fingerprint(scorer)}
    except ValueError:
        if name is None:
            raise
    return {"name": name, "fingerprint": None}


def _cross_encoder(scorer: Any) -> Any:
    """The `CrossEncoder` that a scorer is, or is the method `predict` of; None for any other scorer."""
    owner = owner_of(scorer)
    return owner if any(kind.__name__ == "CrossEncoder" for kind in type(owner).__mro__) else None


def teacher_fingerprint(scorer: Any) -> str:
    """sha256 of all that a `CrossEncoder`'s scores depend on: equal for a model saved and loaded again.

    Weights (bytes, types, shapes, adapters), configuration, tokenizer, `max_length`, truncation and activation. Of a
    scorer that holds it as its `fingerprint`, as a `ScoringPool` does that of its model, this one. Raises `ValueError`
    for any other scorer, and for an activation that is not made of modules of torch.
    """
    known = getattr(owner_of(scorer), "fingerprint", None)
    if isinstance(known, str) and known:
        return known
    model = _cross_encoder(scorer)
    if model is None:
        name = getattr(scorer, "__name__", type(scorer).__name__)
        raise ValueError(
            f'{name} says nothing of its version: give teacher="name-and-version", and change it whenever the scores '
            "would be others (a CrossEncoder is known by its weights)"
        )
    import torch

    activation = model.activation_fn
    parts = list(activation.modules()) if isinstance(activation, torch.nn.Module) else [None]
    if not all(type(part).__module__.startswith("torch.") for part in parts):
        raise ValueError(
            f"the activation {activation!r} is the caller's own, and what it computes cannot be seen from outside: "
            'give teacher="name-and-version"'
        )
    digest = hashlib.sha256()
    said = {
        "class": type(model.model).__name__,
        "activation": repr(activation),
        "truncation": getattr(model, "truncation", "longest_first"),
    }
    said |= {"max_length": getattr(model, "max_seq_length", None) or model.max_length}  # sentence-transformers' name
    said |= {"config": _config(model.model.config), "tokenizer": _tokenizer(model.tokenizer)}
    said |= {"adapters": {name: c.to_dict() for name, c in getattr(model.model, "peft_config", {}).items()}}
    said |= {"adapter": str(getattr(model.model, "active_adapter", ""))}
    digest.update(json.dumps(said, sort_keys=True, default=_listed).encode())
    for name, weight in {**model.model.state_dict(), **_named(activation)}.items():
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        digest.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _named(activation: Any) -> dict[str, Any]:
    return {f"activation {name}": weight for name, weight in activation.state_dict().items()}


def _config(config: Any) -> dict[str, Any]:
    return {name: value for name, value in config.to_dict().items() if name not in NOT_THE_MODEL}


def _tokenizer(tokenizer: Any) -> Any:
    """All that a tokenizer does to texts; how a call padded and cut is left on it, and left out."""
    said: Any = sorted(tokenizer.get_vocab().items())
    if getattr(tokenizer, "is_fast", False):
        said = json.loads(tokenizer.backend_tokenizer.to_str())
        said.update(padding=None, truncation=None)
    return [said, tokenizer.special_tokens_map, tokenizer.truncation_side, tokenizer.model_input_names]


def _listed(value: Any) -> Any:
    return sorted(map(str, value)) if isinstance(value, (set, frozenset)) else str(value)


def with_teacher_scores(pairs: Any, scores: ArrayLike, *, gold: bool = False, label_names: Sequence[str] = ()) -> Pairs:
    """The same pairs, groups and tags with the teacher's scores as labels, float32 `(N,)` or `(N, C)`.

    With `gold` the labels that the pairs have are kept in further columns, for losses that mix both: `(N, 2)` is
    [teacher, gold] for one score a pair, and `(N, C + 1)` the teacher's C scores and the gold class's index;
    gold labels `(N, C)` make it `(N, 2 C)`. `teacher_and_gold` takes the columns apart. `label_names`: the teacher's
    classes, `model.label_names`; the columns are put in the order of the data's own, which must be the same names. The
    result has the names where the teacher gave a score for each class. Raises `DataError` for scores that do not fit
    or are not finite, and for other classes; warns of lists whose passages all have one score, as those have that a
    sigmoid takes to 1.
    """
    pairs = as_pairs(pairs)
    with np.errstate(over="ignore"):  # an infinity is seen below
        taught = np.asarray(scores).astype(np.float32)
    taught = taught[:, 0] if taught.ndim == 2 and taught.shape[1] == 1 else taught
    if taught.ndim not in (1, 2) or len(taught) != pairs.num_pairs:
        raise DataError(f"the teacher's scores have shape {taught.shape} for {pairs.num_pairs} pairs")
    bad = np.flatnonzero(~np.isfinite(taught.reshape(len(taught), -1)).all(axis=1))
    if len(bad):
        what = f"pair {bad[0]}: the teacher's score is {np.asarray(scores)[bad[0]]}"
        raise DataError(f"{what}, in float32 {taught[bad[0]]} ({len(bad)} of {len(taught)} are not finite)")
    taught, names = _by_class(pairs, taught, tuple(label_names))
    if level := _level_lists(pairs, taught):
        warnings.warn(
            f"{level:,} of {len(pairs):,} lists have one and the same teacher score for all their passages, which says "
            'nothing of their order; raw scores stay apart: settings={"activation_fn": "identity"} of cached_scores',
            stacklevel=2,
        )
    note = f"labels are a teacher's scores, {taught.min():g} to {taught.max():g}" if taught.size else "no pairs"
    if gold:
        taught, note = np.column_stack([taught, _gold(pairs, taught)]), f"{note}, and gold labels after them"
    if pairs.label_names and not names:
        note += f"; the gold classes are {', '.join(pairs.label_names)}"
    return replace(pairs, labels=taught.astype(np.float32), notes=(*pairs.notes, note), label_names=names)


def _by_class(pairs: Pairs, taught: np.ndarray, theirs: tuple[str, ...]) -> tuple[np.ndarray, tuple[str, ...]]:
    """The scores with their columns in the order of the data's classes, and the names, where each has a column."""
    width, ours = taught.shape[1] if taught.ndim == 2 else 1, pairs.label_names
    if theirs and width != len(theirs):
        raise DataError(f"label_names has {len(theirs)} names ({', '.join(theirs)}), the scores {width} a pair")
    if theirs and ours and sorted(theirs) != sorted(ours):
        raise DataError(f"the teacher's classes are {', '.join(theirs)}, the data's {', '.join(ours)}: not the same")
    if theirs and ours:
        taught = reordered(taught, [theirs.index(name) for name in ours])
    names = ours or theirs
    return taught, names if taught.ndim == 2 and width == len(names) else ()


def _level_lists(pairs: Pairs, taught: np.ndarray) -> int:
    """How many groups of two candidates or more have no two different scores."""
    if taught.ndim > 1:
        return 0
    bounds = zip(pairs.offsets[:-1], pairs.offsets[1:], strict=True)
    return sum(bool(np.ptp(taught[start:end]) == 0) for start, end in bounds if end - start > 1)


def _gold(pairs: Pairs, taught: np.ndarray) -> np.ndarray:
    if pairs.labels is None:
        raise DataError("gold=True keeps the labels that the pairs have, and these have none")
    if pairs.labels.ndim == 2 and pairs.labels.shape[1] not in {1, *taught.shape[1:]}:
        raise DataError(f"the gold labels have shape {pairs.labels.shape}, the teacher's scores {taught.shape}")
    return pairs.labels


def teacher_and_gold(labels: Any, num_labels: int = 1) -> tuple[Any, Any]:
    """Labels `(..., C + G)` of `with_teacher_scores(gold=True)` as the teacher's and the gold ones; arrays or tensors.

    C is `num_labels`. One column comes back without its axis: `(Q, K, 2)` gives `(Q, K)` and `(Q, K)`. Raises
    `ValueError` where there are no columns after the first C, or neither one nor C.
    """
    width = labels.shape[-1] if len(labels.shape) > 1 else 0
    if width - num_labels not in (1, num_labels):
        raise ValueError(f"labels of shape {tuple(labels.shape)} are not a teacher's {num_labels} with gold ones")
    teacher, gold = labels[..., :num_labels], labels[..., num_labels:]
    return tuple(part[..., 0] if part.shape[-1] == 1 else part for part in (teacher, gold))  # type: ignore[return-value]
