"""NanoBEIR's evaluator: folders and the hub, numbers by hand, those of sentence-transformers 6, files and errors."""

import csv
import inspect
import json
import logging
import zlib

import datasets
import numpy as np
import pytest
import sentence_transformers.cross_encoder.evaluation as theirs

from crossenc_kit import CrossEncoderNanoBEIREvaluator, CrossEncoderRerankingEvaluator
from crossenc_kit.errors import DataError
from crossenc_kit.retrieval.baselines import word_overlap

DOCUMENTS = {"d1": "red apple", "d2": "green pear", "d3": "red car on a road", "d4": "an apple a day"}
QUERIES = {"q1": "red apple", "q2": "pear"}
QRELS = {"q1": {"d1": 1, "d2": 0, "d4": 2}, "q2": {"d2": 1}}
RUN = {"q1": ["d3", "d1", "d2"], "q2": ["d4", "d3"]}  # of q1, "d4" is missed; of q2 everything


class Model:
    """Scores by word overlap, hardly changed so that none are equal; takes what sentence-transformers gives a model."""

    def __init__(self, sign=1):
        self.sign, self.model_card_data = sign, self

    def predict(self, pairs, **_):
        apart = np.array([zlib.crc32("".join(pair).encode()) for pair in pairs]) / 2**32
        return self.sign * (word_overlap(pairs) + apart / 1000)

    def set_evaluation_metrics(self, *_):
        pass


def a_collection(folder, run=RUN, split="test", run_name="bm25"):
    (folder / "qrels").mkdir(parents=True)
    for name, texts in (("corpus", DOCUMENTS), ("queries", QUERIES)):
        lines = [json.dumps({"_id": key, "title": "", "text": text}) + "\n" for key, text in texts.items()]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    rows = [f"{q}\t{d}\t{grade}\n" for q, judged in QRELS.items() for d, grade in judged.items()]
    (folder / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(rows), encoding="utf-8")
    if run is not None:
        rows = [f"{q}\t{d}\t{rank}\n" for q, found in run.items() for rank, d in enumerate(found, 1)]
        (folder / "runs").mkdir()
        (folder / "runs" / f"{run_name}.tsv").write_text(
            "query-id\tcorpus-id\trank\n" + "".join(rows), encoding="utf-8"
        )
    return folder


def random_hub(seed, names):
    """What `datasets.load_dataset` gives for the subsets of each name: 12 documents, 6 queries, 5 candidates."""
    rng = np.random.default_rng(seed)
    found = {}
    for name in names:
        words = [f"w{i}" for i in range(40)]
        texts = {f"d{i}": " ".join(rng.choice(words, 5, replace=False)) for i in range(12)}
        asked = {f"q{i}": " ".join(rng.choice(words, 9, replace=False)) for i in range(6)}
        good = {q: rng.choice(list(texts), rng.integers(1, 4), replace=False).tolist() for q in asked}
        ranks = {q: rng.choice(list(texts), 5, replace=False).tolist() for q in asked}
        found["corpus", name] = [{"_id": i, "text": text} for i, text in texts.items()]
        found["queries", name] = [{"_id": i, "text": text} for i, text in asked.items()]
        found["qrels", name] = [{"query-id": q, "corpus-id": d} for q, ids in good.items() for d in ids]
        found["bm25", name] = [{"query-id": q, "corpus-ids": ids} for q, ids in ranks.items()]
    return found


@pytest.fixture
def hub(monkeypatch):
    """A hub with two of the collections; asking for others fails."""
    parts = random_hub(0, ["NanoMSMARCO", "NanoNQ"])

    def load_dataset(name, part, split):
        assert name == "sentence-transformers/NanoBEIR-en"
        return datasets.Dataset.from_list(parts[part, split])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return parts


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    return header, [[float(cell) for cell in row] for row in rows]


class TestFolder:
    def test_by_hand(self, tmp_path):
        for name in ("NanoMSMARCO", "my_set"):
            a_collection(tmp_path / name)
        evaluator = CrossEncoderNanoBEIREvaluator(folder=tmp_path)
        assert evaluator.dataset_names == ["NanoMSMARCO", "my_set"]
        found = evaluator(Model())
        # q1: "d1" comes first of three; q2: nothing found. "d4" of q1 is no candidate and, as in sentence-transformers,
        # counts only for the first stage, as ranked below the others: ranks 2 and 4
        assert found["NanoMSMARCO_R100_ndcg@10"] == found["my_set_R100_ndcg@10"] == 1 / 2
        assert found["NanoBEIR_R100_mean_ndcg@10"] == 1 / 2
        assert found["NanoBEIR_R100_mean_base_map"] == pytest.approx((1 / 2 + 2 / 4) / 2 / 2)
        assert found["NanoBEIR_R100_mean_base_mrr@10"] == 1 / 4
        assert next(iter(found)) == evaluator.primary_metric == "NanoBEIR_R100_mean_ndcg@10"
        assert len(found) == 18

    def test_a_collection_is_that_of_the_reranking_evaluator(self, tmp_path):
        a_collection(tmp_path / "fruit")
        texts = [[DOCUMENTS[d] for d in RUN[q]] for q in QUERIES]
        relevant = [[DOCUMENTS[d] for d, grade in QRELS[q].items() if grade] for q in QUERIES]
        rows = zip(QUERIES.values(), relevant, texts, strict=True)
        samples = [{"query": q, "positive": p, "documents": d} for q, p, d in rows]
        for always in (True, False):
            options = {"at_k": 2, "always_rerank_positives": always}
            found = CrossEncoderNanoBEIREvaluator(folder=tmp_path, **options)(Model(-1))
            expected = CrossEncoderRerankingEvaluator(samples, name="fruit_R100", **options)(Model(-1))
            assert {key: found[key] for key in expected} == expected

    def test_the_first_of_the_run_are_reranked(self, tmp_path):
        a_collection(tmp_path / "fruit")
        found = CrossEncoderNanoBEIREvaluator(folder=tmp_path, rerank_k=1)(Model())
        assert set(found.values()) == {0}
        assert "fruit_R1_ndcg@10" in found

    def test_bm25_where_there_is_no_run(self, tmp_path, caplog):
        caplog.set_level(logging.INFO)
        a_collection(tmp_path / "fruit", run=None)
        found = CrossEncoderNanoBEIREvaluator(folder=tmp_path)(Model())
        assert found["fruit_R100_ndcg@10"] == 1  # BM25 finds all three
        assert "fruit has no run: BM25 searched all its documents" in caplog.messages

    def test_names(self, tmp_path):
        for name in ("NanoMSMARCO", "nq", "NanoArguAna", "Others"):
            a_collection(tmp_path / name)
        assert CrossEncoderNanoBEIREvaluator(folder=tmp_path).dataset_names == ["NanoMSMARCO", "Others", "NanoNQ"]
        for names in (["msmarco", "nq"], ["NanoMSMARCO", "NQ"], ["MSMARCO", "NanoNQ"]):
            found = CrossEncoderNanoBEIREvaluator(names, folder=tmp_path)
            assert found.dataset_names == ["NanoMSMARCO", "NanoNQ"]
        assert CrossEncoderNanoBEIREvaluator(["arguana", "Others"], folder=tmp_path).dataset_names == [
            "NanoArguAna",
            "Others",
        ]

    def test_splits_and_names_of_runs(self, tmp_path):
        a_collection(tmp_path / "one", split="dev", run_name="bm25_top20_dev")
        found = CrossEncoderNanoBEIREvaluator(folder=tmp_path, split="dev")(Model())
        assert found["one_R100_ndcg@10"] == 1 / 2
        with pytest.raises(DataError, match="has no split 'test'"):
            CrossEncoderNanoBEIREvaluator(folder=tmp_path)

    def test_another_mean(self, tmp_path):
        a_collection(tmp_path / "one")
        a_collection(tmp_path / "two", run={"q1": ["d1"], "q2": ["d2"]})
        evaluator = CrossEncoderNanoBEIREvaluator(folder=tmp_path, aggregate_fn=max, aggregate_key="best")
        found = evaluator(Model(), tmp_path / "out", epoch=1, steps=7)
        assert found["NanoBEIR_R100_best_ndcg@10"] == 1
        assert (tmp_path / "out" / "NanoBEIR_evaluation_best_results.csv").exists()

    def test_the_log(self, tmp_path, caplog):
        a_collection(tmp_path / "fruit")
        caplog.set_level(logging.INFO)
        CrossEncoderNanoBEIREvaluator(folder=tmp_path, always_rerank_positives=True)(Model())
        assert caplog.messages == [
            "CrossEncoderRerankingEvaluator fruit_R100, first stage of 2 samples: "
            "MAP 0.2500, MRR@10 0.2500, NDCG@10 0.3255",
            "CrossEncoderRerankingEvaluator fruit_R100: "
            "positives that the first stage missed were reranked too, which flatters",
            "CrossEncoderRerankingEvaluator fruit_R100, epoch -1, steps -1: MAP 1.0000, MRR@10 1.0000, NDCG@10 1.0000",
            "CrossEncoderNanoBEIREvaluator NanoBEIR_R100_mean, epoch -1, steps -1: "
            "MAP 1.0000, MRR@10 1.0000, NDCG@10 1.0000",
        ]


class TestAgainstSentenceTransformers:
    @pytest.mark.parametrize("always", [True, False])
    @pytest.mark.parametrize(("rerank_k", "at_k"), [(100, 10), (3, 2)])
    def test_figures_keys_and_files(self, hub, tmp_path, always, rerank_k, at_k):
        options = {"rerank_k": rerank_k, "at_k": at_k, "always_rerank_positives": always}
        found = {}
        for kind, place in ((theirs.CrossEncoderNanoBEIREvaluator, "theirs"), (CrossEncoderNanoBEIREvaluator, "ours")):
            evaluator = kind(["msmarco", "NQ"], **options)
            found[place] = evaluator(Model(), str(tmp_path / place), epoch=2, steps=5)
            assert evaluator.primary_metric == f"NanoBEIR_R{rerank_k}_mean_ndcg@{at_k}"
        assert found["ours"] == pytest.approx(found["theirs"])
        assert 0 < found["ours"][f"NanoNQ_R{rerank_k}_map"] < 1
        files = sorted(path.name for path in (tmp_path / "theirs").iterdir())
        assert sorted(path.name for path in (tmp_path / "ours").iterdir()) == files
        assert len(files) == 3
        for name in files:
            header, rows = rows_of(tmp_path / "ours" / name)
            assert header == rows_of(tmp_path / "theirs" / name)[0]
            assert rows == [pytest.approx(row) for row in rows_of(tmp_path / "theirs" / name)[1]]

    def test_lists_of_relevant_documents(self, hub):
        plain = CrossEncoderNanoBEIREvaluator(["nq"])(Model())
        rows = {}
        for row in hub["qrels", "NanoNQ"]:
            rows.setdefault(row["query-id"], []).append(row["corpus-id"])
        hub["qrels", "NanoNQ"] = [{"query-id": query, "corpus-id": ids} for query, ids in rows.items()]
        assert CrossEncoderNanoBEIREvaluator(["nq"])(Model()) == plain

    def test_the_arguments(self):
        def spelled(kind):
            return [str(p.replace(annotation=inspect.Parameter.empty)) for p in parameters(kind)]

        def parameters(kind):
            return inspect.signature(kind).parameters.values()

        same = [text for text in spelled(theirs.CrossEncoderNanoBEIREvaluator) if "prompt_name" not in text]
        ours = [text for text in spelled(CrossEncoderNanoBEIREvaluator) if not text.startswith(("folder", "split"))]
        changed = {"always_rerank_positives=True": "always_rerank_positives=False"}
        assert [text.split("<")[0] for text in ours] == [changed.get(text, text).split("<")[0] for text in same]


class TestErrors:
    def test_folders(self, tmp_path):
        with pytest.raises(DataError, match=r"^no collections in .*: it has no folder with a corpus.jsonl$"):
            CrossEncoderNanoBEIREvaluator(folder=tmp_path)
        a_collection(tmp_path / "nq")
        with pytest.raises(DataError, match=r"^no collection 'fever' in .*; there is nq$"):
            CrossEncoderNanoBEIREvaluator(["nq", "fever"], folder=tmp_path)
        (tmp_path / "nq/runs/bm25.tsv.gz").write_bytes(b"")
        with pytest.raises(DataError, match=r"has several runs: .*; leave one$"):
            CrossEncoderNanoBEIREvaluator(folder=tmp_path)

    def test_two_folders_of_one_collection(self, tmp_path):
        for name in ("nq", "NanoNQ"):
            a_collection(tmp_path / name)
        with pytest.raises(DataError, match=r"NanoNQ and .*nq are one collection; keep one of them$"):
            CrossEncoderNanoBEIREvaluator(folder=tmp_path)

    @pytest.mark.parametrize("given", [{"dataset_names": "nq"}, {"rerank_k": 0}], ids=str)
    def test_arguments(self, tmp_path, given):
        a_collection(tmp_path / "nq")
        with pytest.raises(ValueError, match="give a list of names and at least one candidate"):
            CrossEncoderNanoBEIREvaluator(folder=tmp_path, **given)

    def test_a_run_of_other_queries(self, tmp_path, caplog):
        a_collection(tmp_path / "nq", run={"q8": ["d1"], "q9": ["d2"]})
        with pytest.raises(DataError, match=r"^none of the 2 queries of the run of nq is in the collection: 'q8'"):
            CrossEncoderNanoBEIREvaluator(folder=tmp_path)
        a_collection(tmp_path / "some/nq", run={"q1": ["d1"], "q9": ["d2"]})
        CrossEncoderNanoBEIREvaluator(folder=tmp_path / "some")
        assert "nq: queries of the run that the collection lacks, left out: 1 ('q9')" in caplog.messages
        assert "nq: queries without candidates: 1 ('q2')" in caplog.messages

    def test_a_run_of_another_corpus(self, tmp_path):
        a_collection(tmp_path / "nq", run={"q1": ["d9"]})
        with pytest.raises(DataError, match=r"1 of 1 document_ids are not in the corpus: 'd9'"):
            CrossEncoderNanoBEIREvaluator(folder=tmp_path)

    def test_the_hub(self, hub):
        with pytest.raises(DataError, match=r"^no collection 'trec' of NanoBEIR; there is climatefever, dbpedia"):
            CrossEncoderNanoBEIREvaluator(["trec"])
