"""Search collections from folders: BEIR's layout and MS MARCO's, the shipped one, and real ones where they are."""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from pathlib import Path

import ir_measures
import pytest

from crossenc_kit import files
from crossenc_kit.data.ranking import find_ranking, read_ranking
from crossenc_kit.data.trec import read_run
from crossenc_kit.errors import DataError

PUBLIC_DATA = Path(os.environ.get("CROSSENC_KIT_DATA") or "no data")
needs_public_data = pytest.mark.skipif(
    not (PUBLIC_DATA / "rerank_msmarco").is_dir(),
    reason="no public data: set CROSSENC_KIT_DATA to a folder with rerank_msmarco/ and its like",
)

DOCUMENTS = {"d1": "cats purr", "d2": "dogs bark", "007": "cows moo", "d4": "bees hum"}
QUERIES = {"q1": "cats", "q2": "dogs", "q3": "fish", "q4": "never judged"}
QRELS = {"q1": {"d1": 2, "d2": 0}, "q2": {"007": 0}}
DEV = {"q3": {"d4": 1}}


def jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def tsv(table, line):
    return "".join(line.format(*row) for row in table)


def judged(qrels):
    return [(query, document, grade) for query, own in qrels.items() for document, grade in own.items()]


def beir(folder, zipped=False, train=QRELS, documents=DOCUMENTS):
    (folder / "qrels").mkdir(parents=True)
    queries = [{"_id": q, "text": t, "metadata": {}, "kind": f"kind of {q}"} for q, t in QUERIES.items()]
    header = "query-id\tcorpus-id\tscore\n"
    files = {
        "corpus.jsonl": jsonl({"_id": d, "title": "", "text": t} for d, t in documents.items()),
        "queries.jsonl": jsonl(queries),
        "qrels/train.tsv": header + tsv(judged(train), "{}\t{}\t{}\n"),
        "qrels/dev.tsv": header + tsv(judged(DEV), "{}\t{}\t{}\n"),
    }
    for name, content in files.items():
        (folder / (name + ".gz" * zipped)).write_bytes(gzip.compress(content.encode()) if zipped else content.encode())
    return folder


def ms_marco(folder, zipped=False):
    folder.mkdir(parents=True)
    files = {
        "collection.tsv": tsv(DOCUMENTS.items(), "{}\t{}\n"),
        "queries.train.tsv": tsv([(q, t) for q, t in QUERIES.items() if q not in DEV], "{}\t{}\n"),
        "qrels.train.tsv": tsv(judged(QRELS), "{}\t0\t{}\t{}\n"),
        "queries.dev.small.tsv": tsv([(q, QUERIES[q]) for q in DEV], "{}\t{}\n"),
        "qrels.dev.small.tsv": tsv(judged(DEV), "{}\t0\t{}\t{}\n"),
    }
    for name, content in files.items():
        (folder / (name + ".gz" * zipped)).write_bytes(gzip.compress(content.encode()) if zipped else content.encode())
    return folder


@pytest.fixture(autouse=True)
def no_data_folder(monkeypatch):
    monkeypatch.delenv("CROSSENC_KIT_DATA", raising=False)


class TestLayouts:
    @pytest.mark.parametrize("zipped", [False, True])
    @pytest.mark.parametrize("layout", [beir, ms_marco])
    def test_both_layouts(self, tmp_path, layout, zipped):
        collection = read_ranking(layout(tmp_path / "c", zipped))
        assert collection.documents == DOCUMENTS
        assert collection.queries == {"q1": "cats", "q2": "dogs"}
        assert collection.qrels == QRELS
        assert collection.name == "c/train"
        qrels = ("qrels/train.tsv" if layout is beir else "qrels.train.tsv") + ".gz" * zipped
        assert collection.notes == (f"from c/, {qrels}", "queries without a relevant document: 1 ('q2')")

    def test_splits(self, tmp_path):
        for split in ("dev", "validation"):
            assert read_ranking(beir(tmp_path / split), split).qrels == DEV
        folder = ms_marco(tmp_path / "m")
        assert read_ranking(folder, "dev.small").queries == {"q3": "fish"}
        with pytest.raises(
            DataError, match=r"m has no split 'dev': looked for qrels\.dev\.tsv; there is qrels\.dev\.sm"
        ):
            read_ranking(folder, "dev")
        with pytest.raises(
            DataError, match=r"no split 'test': looked for qrels/test\.tsv; there is qrels/dev\.tsv, qre"
        ):
            read_ranking(tmp_path / "dev", "test")
        (folder / "queries.train.tsv").unlink()
        with pytest.raises(DataError, match=r"m: no queries\.train\.tsv, which goes with qrels\.train\.tsv"):
            read_ranking(folder)

    def test_other_columns_become_tags(self, tmp_path):
        collection = read_ranking(beir(tmp_path / "c"))
        assert collection.tags == {"kind": {"q1": "kind of q1", "q2": "kind of q2"}}  # metadata is empty throughout
        assert collection.judged_pairs().tags["kind"] == ["kind of q1", "kind of q2"]


class TestFinding:
    @pytest.mark.parametrize("name", ["ranking", "rerank_msmarco", "msmarco"])
    def test_a_folder_that_holds_it(self, tmp_path, name):
        folder = beir(tmp_path / name)
        assert find_ranking(tmp_path) == find_ranking(str(folder)) == folder
        assert read_ranking(tmp_path).qrels == QRELS

    def test_the_data_folder(self, tmp_path, monkeypatch):
        monkeypatch.setenv("CROSSENC_KIT_DATA", str(tmp_path))
        beir(tmp_path / "mine")
        assert find_ranking("mine") == tmp_path / "mine"
        looked = (
            r"looked for corpus\.jsonl or collection\.tsv in it and in its folders ranking, rerank_msmarco, msmarco"
        )
        with pytest.raises(DataError, match=rf"no search collection in .*: {looked}; there is mine: give one of them"):
            find_ranking()
        assert find_ranking(beir(tmp_path / "ranking").parent) == find_ranking() == tmp_path / "ranking"

    def test_nothing_there(self, tmp_path, monkeypatch):
        monkeypatch.setattr(files, "__file__", str(tmp_path / "site/crossenc_kit/files.py"))
        (tmp_path / "site/data").mkdir(parents=True)
        for source in (tmp_path / "nowhere", "nowhere"):
            with pytest.raises(DataError, match=r"no folder .*nowhere; give a folder with corpus\.jsonl or collection"):
                read_ranking(source)


class TestWantedDocuments:
    def test_the_candidates_of_a_run_beside_them(self, tmp_path):
        folder = beir(tmp_path / "c")
        run = {"q1": {"d4": 1.0}}
        collection = read_ranking(folder, document_ids={d for own in run.values() for d in own})
        assert collection.documents == DOCUMENTS
        assert "documents loaded: 4, those that are judged or asked for" in collection.notes
        assert collection.as_pairs(run).right == ["bees hum"]
        assert list(read_ranking(folder, document_ids=[]).documents) == ["d1", "d2", "007"]

    def test_ids_that_are_not_there(self, tmp_path):
        folder = beir(tmp_path / "c")
        with pytest.raises(DataError, match=r"2 of 3 document_ids are not in the corpus: 'x', 'y'; correct them"):
            read_ranking(folder, document_ids=["y", "d1", "x"])
        collection = read_ranking(folder, document_ids=["y", "d1", "x"], unknown="count")
        assert collection.notes[2] == "document_ids that the corpus lacks: 2 ('x', 'y')"


class TestWhatCannotBeUsed:
    def test_judgements_without_a_text(self, tmp_path):
        folder = beir(tmp_path / "c", train={"q1": {"d1": 1, "d8": 1}, "q9": {"d1": 1}, "q2": {"d9": 1}})
        with pytest.raises(
            DataError, match=r"the qrels have 1 query ids .*: 'q9'; add .*read_ranking: unknown=\"count\""
        ):
            read_ranking(folder)
        collection = read_ranking(folder, unknown="count")
        assert collection.qrels == {"q1": {"d1": 1}, "q2": {}}
        assert collection.notes[1:] == (
            "judgements of queries without a text left out: 1 queries ('q9')",
            "judgements of documents without a text left out: 2 documents ('d8', 'd9')",
            "queries without a relevant document: 1 ('q2')",
        )
        with pytest.raises(ValueError, match="unknown must be one of error, count; got 'drop'"):
            read_ranking(folder, unknown="drop")

    def test_malformed_lines_of_every_file(self, tmp_path):
        folder = beir(tmp_path / "c")
        for name, line in {
            "corpus.jsonl": '{"_id": "d1", "text": "again"}',
            "queries.jsonl": '{"_id": "q1"}',
            "qrels/train.tsv": "q1\td1\t2",
        }.items():
            with open(folder / name, "a") as file:
                file.write(line + "\n")
        messages = {
            "qrels/train.tsv": r"train\.tsv, line 5: query 'q1' has document 'd1' a second time",
            "queries.jsonl": r"queries\.jsonl, line 5: expected an id .* and a text",
            "corpus.jsonl": r"corpus\.jsonl, line 5: the id 'd1' is there a second time",
        }
        collection = read_ranking(folder, malformed="count")
        assert (collection.documents, collection.qrels) == (DOCUMENTS, QRELS)
        for number, (name, message) in enumerate(messages.items(), 1):
            assert "malformed lines left out: 1 (line 5: " in collection.notes[number]
            with pytest.raises(DataError, match=message):
                read_ranking(folder)
            lines = (folder / name).read_text().splitlines(keepends=True)
            (folder / name).write_text("".join(lines[:-1]))

    def test_an_empty_document(self, tmp_path):
        folder = beir(tmp_path / "c", documents={**DOCUMENTS, "d5": " "})
        with pytest.raises(DataError, match=r"corpus\.jsonl, line 5: the text of id 'd5' is empty"):
            read_ranking(folder)
        assert read_ranking(folder, malformed="count").documents == DOCUMENTS

    def test_grades_below_0(self, tmp_path):
        folder = beir(tmp_path / "c", train={"q1": {"d1": 1, "d2": -1}})
        with pytest.raises(DataError, match=r"train\.tsv, line 3: the grade is -1, below 0; negative_grades=\"zero\""):
            read_ranking(folder)
        collection = read_ranking(folder, negative_grades="zero")
        assert collection.qrels == {"q1": {"d1": 1, "d2": 0}}
        assert "train.tsv: grades below 0 counted as 0: 1" in collection.notes


@pytest.mark.parametrize(("split", "queries", "grades"), [
    ("train", 192, {3: 193, 2: 33, 1: 198, 0: 1880}),
    ("dev", 64, {3: 64, 2: 10, 1: 70, 0: 624}),
    ("test", 128, {3: 128, 2: 23, 1: 140, 0: 1245}),
])  # fmt: skip
def test_the_shipped_collection(split, queries, grades):
    collection = read_ranking(split=split)
    assert (len(collection.documents), len(collection.queries)) == (576, queries)
    assert Counter(grade for own in collection.qrels.values() for grade in own.values()) == grades
    assert collection.name == f"ranking/{split}"
    assert set(collection.tags) == {"kind", "form", "topic"}
    assert collection.judged_pairs().num_pairs == 12 * queries


COUNTS = [  # name, split, documents, queries, judgements, of which relevant: as published
    ("rerank_msmarco", "train", 13_898, 2_352, 2_352, 2_352),
    ("rerank_msmarco", "dev", 13_898, 95, 95, 95),
    ("rerank_msmarco", "test", 13_898, 185, 185, 185),
    ("rerank_trecdl19", "test", 9_139, 43, 9_260, 697 + 1_804 + 1_601),
    ("rerank_trecdl23", "train", 11_621, 25, 7_263, 697 + 625 + 1_403),
    ("rerank_trecdl23", "test", 11_621, 25, 4_423, 377 + 808 + 1_233),
    ("rerank_wikiqa", "train", 12_139, 873, 8_672, 1_040),
    ("rerank_wikiqa", "dev", 12_139, 122, 1_126, 136),
    ("rerank_wikiqa", "test", 12_139, 237, 2_341, 283),
]


@needs_public_data
class TestPublicData:
    @pytest.mark.parametrize(("name", "split", "documents", "queries", "judgements", "relevant"), COUNTS)
    def test_published_counts(self, name, split, documents, queries, judgements, relevant):
        collection = read_ranking(PUBLIC_DATA / name, split)
        pairs = collection.judged_pairs()
        assert (len(collection.documents), len(collection.queries), len(pairs)) == (documents, queries, queries)
        assert (pairs.num_pairs, int((pairs.labels > 0).sum())) == (judgements, relevant)
        assert len(collection.notes) == 1  # nothing left out

    @pytest.mark.parametrize(("name", "lines"), [("bm25", 5_190), ("bert", 5_190)])
    def test_runs_of_trec(self, name, lines):
        collection = read_ranking(PUBLIC_DATA / "rerank_trecdl19", "test")
        run = read_run(PUBLIC_DATA / "rerank_trecdl19" / "runs" / f"{name}.tsv")
        assert sum(map(len, run.values())) == lines
        pairs = collection.as_pairs(run)
        assert (len(pairs), pairs.num_pairs) == (43, lines)
        value = ir_measures.calc_aggregate([ir_measures.nDCG @ 10], collection.qrels, run)[ir_measures.nDCG @ 10]
        assert round(value, 3) == {"bm25": 0.484, "bert": 0.696}[name]

    @pytest.mark.parametrize(("split", "asked", "judged", "hit"), [("dev", 100, 95, 93), ("test", 200, 185, 182)])
    def test_runs_of_ms_marco(self, split, asked, judged, hit):
        run = read_run(PUBLIC_DATA / "rerank_msmarco" / "runs" / f"bm25_top20_{split}.tsv")
        assert len(run) == asked
        with pytest.raises(DataError, match=f"the run has {asked - judged} queries that the collection lacks"):
            read_ranking(PUBLIC_DATA / "rerank_msmarco", split).as_pairs(run)
        pairs = read_ranking(PUBLIC_DATA / "rerank_msmarco", split).as_pairs(run, unknown="count")
        assert (len(pairs), pairs.num_pairs, int(pairs.labels.sum())) == (judged, 20 * judged, hit)
