"""Learn, teach and use cross-encoders: models that read two texts together and score the pair.

The package is meant to be read. Each room below is a folder, each file in it holds one idea, and a room
imports only from the rooms that `tests/house/test_layers.py` allows it. To find something, pick the room:

    data                   pairs and collections, and the files they come from
    losses                 scores and labels in, a scalar out
    models                 the cross-encoder: load, tokenise, forward, save
    retrieval              candidates and negatives: BM25, dense vectors, reranking, mining
    training               the visible training loop, and what it needs
    evaluation             a scorer and data become a report
    inference              fast and large-scale scoring: export, bulk, pool
    distillation           a large model teaches a small one
    plots                  every figure, still or live
    lab                    notebooks as experiments; exercises that check themselves; a benchmark; a doctor
    sentence_transformers  code written for sentence-transformers runs with the import changed

Six files stand beside the rooms, and any room may use them:

    errors                 the exceptions and warnings of all rooms
    files                  files and folders written whole or not at all, strict JSON, hashes
    jobs                   the folder of a long job: its lock, its status, its stop signals
    history                the rows of a training run, reports, and where a result came from
    scorers                what a scorer is, and how its scores are checked
    __main__               the commands of `crossenc-kit`

One letter stands for each axis, in formulas, docstrings and notebooks alike:

    B  pairs in a batch    T  tokens       C  labels
    Q  queries             K  candidates   H  hidden size

The names used most can be imported from here, all others from their room. `__init__.pyi` lists them, and
each is imported when it is first used, so `import crossenc_kit` takes milliseconds.
"""

import os.path

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, _names = lazy_loader.attach_stub(__name__, __file__)

# A star import brings the public names but not the rooms: `data` and `models` are names that callers use.
__all__ = [name for name in _names if not os.path.isdir(os.path.join(os.path.dirname(__file__), name))]
