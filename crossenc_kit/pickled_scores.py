"""Score files that are pickles: refused, with the reason and the way to convert them.

The teacher scores of MS MARCO are published as `cross-encoder-ms-marco-MiniLM-L-6-v2-scores.pkl.gz`, a pickled
`{query id: {passage id: score}}`.
"""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path

from crossenc_kit.pairs import DataError

SUFFIXES = {".pkl", ".pickle", ".pk", ".joblib", ".pt", ".pth", ".bin"}
COMPRESSED = {".gz", ".bz2", ".xz", ".zst"}
OLD_PROTOCOLS = (b"(dp", b"(lp", b"}q\x00", b"]q\x00", b"ccollections\n", b"cnumpy", b"ccopy_reg\n")  # 0 and 1
ZIP = b"PK\x03\x04"


def refuse_pickle(path: str | os.PathLike) -> None:
    """Raise `DataError` for a file that is a pickle by its name or its first bytes, gzipped or not."""
    path = Path(path)
    head = _first_bytes(path)
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in COMPRESSED]
    named = bool(suffixes) and suffixes[-1] in SUFFIXES
    pickled = (head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")) or head[:4] == ZIP
    if named or pickled or head.startswith(OLD_PROTOCOLS):
        raise DataError(
            f"{path} is a pickle, and it is not read here: reading one runs whatever code its author, or anyone who "
            "changed it on the way, put in it. Convert it once, where there is nothing to lose (a container without "
            f"network and keys), and read the file of JSON Lines that this writes:\n\n{conversion(path, head)}"
        )


def conversion(path: Path, head: bytes) -> str:
    """A few lines of Python that write a pickled `{query id: {document id: score}}` as JSON Lines."""
    gzipped = _is_gzipped(path)
    opened = f"gzip.open({path.name!r})" if gzipped else f"open({path.name!r}, 'rb')"
    load = "torch.load(file, weights_only=True)" if head[:4] == ZIP else "pickle.load(file)"
    stem = path.name.split(".")[0]
    target = f"{stem}.jsonl"
    if target.lower() == path.name.lower():  # some file systems tell no cases apart
        target = f"{stem}-converted.jsonl"
    return "\n".join(
        [
            f"import {'gzip, ' if gzipped else ''}json, {load.split('.')[0]}",
            f"with {opened} as file, open({target!r}, 'x') as out:",
            f"    for query, scored in {load}.items():",
            "        for document, score in scored.items():",
            "            row = {'query_id': str(query), 'document_id': str(document), 'score': float(score)}",
            "            out.write(json.dumps(row) + '\\n')",
        ]
    )


def _is_gzipped(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _first_bytes(path: Path) -> bytes:
    try:
        with gzip.open(path) if _is_gzipped(path) else open(path, "rb") as file:
            return file.read(16)
    except (EOFError, zlib.error, gzip.BadGzipFile):  # whoever reads on will say so
        return b""
