"""Cross-encoders, from a pair of texts to a score: train, evaluate, understand and serve them.

A cross-encoder reads two texts together and returns one score, or one per class. The package is meant
to be read. Each room below is a folder, each file in it holds one idea, and a room imports only from
the rooms above it:

    data                  pairs and collections, and the files they come from
    losses                scores and labels in, a scalar out
    models                the cross-encoder: load, tokenise, forward, save
    retrieval             candidates and negatives: BM25, dense vectors, reranking, mining
    training              the visible training loop, and what it needs
    evaluation            a scorer and data become a report
    inference             fast and large-scale scoring: export, bulk, pool
    distillation          a large model teaches a small one
    plots                 every figure, still or live
    lab                   notebooks as experiments, with exercises, a benchmark and a doctor
    sentence_transformers code written for sentence-transformers runs with the import changed

The files beside the rooms (`errors`, `files`, `jobs`, `history`, `scorers`) serve all of them.

One letter names each axis: B pairs in a batch, T tokens, C labels, Q queries, K candidates per query,
H hidden size. `__init__.pyi` lists the public names; each is imported when it is first used, so that
`import crossenc_kit` takes milliseconds.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
