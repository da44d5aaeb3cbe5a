"""The battery's items of evaluation: reports, metrics, statistics, calibration, probes and slices."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from battery_adapters import ask, fields, item, kit, metrics
from battery_inputs import bm25, classifier, collection, dense, lists, nli, scorer, search_words, sts, tiny, train


@item("evaluate: correlation", near=True)
def _() -> Any:
    own = sts("dev")
    report = kit.evaluate_correlation(scorer(), own, baselines={"overlap": kit.word_overlap}, resamples=200)
    told = [metrics(report), fields(report, "scores", "intervals", "baselines", "margins")]
    tags = kit.by_tag(kit.pearson, report.scores, report.labels, own.tags["domain"])
    return [*told, kit.correlation_evaluator(own)(scorer()), tags]


@item("evaluate: classification", near=True)
def _() -> Any:
    own = nli("dev").select(range(300))
    other = tiny(3, label_names=own.label_names)
    report = kit.evaluate_classification(classifier(), own, baselines={"new": other}, resamples=200)
    names = ("scores", "probabilities", "predicted", "accuracy", "macro_f1", "ece", "log_loss", "confusion")
    told = [metrics(report), fields(report, *names, "intervals", "baselines", "margins")]
    told += [[getattr(report.classes, name) for name in ("precision", "recall", "f1", "support")]]
    theirs = kit.evaluate_classification(other, own, resamples=0)
    compared = kit.compare_classifiers(report, theirs, resamples=500)
    told += [kit.classification_evaluator(own)(classifier())]
    return [*told, fields(compared, "difference", "interval", "p")]


@item("evaluate: two classes", near=True)
def _() -> Any:
    own = sts("dev")
    data = replace(own, labels=(own.labels > 0.5).astype(np.int64), label_names=("no", "yes"))
    report = kit.evaluate_classification(scorer(), data, threshold=0.4, resamples=50)
    return [metrics(report), fields(report, "average_precision", "threshold", "intervals")]


@item("evaluate: ranking")
def _() -> Any:
    found: dict[str, Any] = {}
    ranked = ask(kit.rerank, search_words(scorer=scorer(), depth=10))
    for name, options in {
        "plain": {},
        "graded": {"relevant_from": 2, "gains": "exponential", "k": 5, "ties": "order_free"},
        "compared": {"first_stage": bm25(), "baselines": {"dense": dense()(collection().queries, 30)}},
    }.items():
        report = ask(kit.evaluate_ranking, search_words(run=ranked, resamples=100) | options)
        more = ("values", "ceiling", "intervals", "baselines", "candidate_recall")
        found[name] = [metrics(report), fields(report, *more)]
    two = {"ours": ranked, "theirs": bm25(), "run_a": ranked, "run_b": bm25()}
    compared = ask(kit.compare_runs, search_words(resamples=300) | two)
    return found | {"compare_runs": fields(compared, "difference", "interval", "p", "wins", "ties", "losses")}


@item("evaluate: metrics of one query")
def _() -> Any:
    draw = np.random.default_rng(3)
    found = []
    for size in (1, 4, 9, 30):
        scores, grades = draw.integers(0, 6, size).astype(float), draw.integers(0, 4, size)
        found += [kit.ndcg(scores, grades, k, gains=own) for k in (None, 3) for own in ("linear", "exponential")]
        found += [kit.reciprocal_rank(scores, grades, 5), kit.average_precision_of(scores, grades)]
        found += [getattr(kit, name)(scores, grades, 3) for name in ("success_at", "precision_at", "recall_at")]
    return found


@item("evaluate: a run's metrics for each query")
def _() -> Any:
    names = ["ndcg@10", "mrr@10", "map", "recall@20", "success@5"]
    given = {"run": bm25(), "qrels": collection().qrels, "metrics": names}
    return {name: np.asarray(values) for name, values in ask(kit.first("measure_run", "query_values"), given).items()}


@item("evaluate: reranking, collections and depths")
def _() -> Any:
    own = collection()
    given = search_words(data=own, run=bm25(), depth=10)
    found: dict[str, Any] = {"evaluator": ask(kit.ranking_evaluator, given)(scorer())}
    found["evaluator, grades"] = ask(kit.ranking_evaluator, given | {"relevant_from": 2, "k": 5})(scorer())
    of_lists = ask(kit.ranking_evaluator, {"data": lists(), "collection": lists(), "candidates_in_order": True})
    found["evaluator, lists"] = of_lists(scorer())
    report = ask(kit.evaluate_collections, {"scorer": scorer(), "collections": {"one": (own, bm25())}}, resamples=50)
    found["collections"] = metrics(report)
    curve = ask(kit.depth_curve, search_words(scorer=scorer(), depths=(0, 3, 10), k=10), resamples=50)
    points = getattr(curve, "points", curve)
    found["depths"] = [[point.depth, point.pairs, metrics(point), point.intervals, point.ceiling] for point in points]
    return found


@item("evaluate: sentence-transformers' evaluators of reranking")
def _() -> Any:
    own, run = collection(), bm25()
    samples, documents = [], []
    for query, text in own.queries.items():
        known = set(own.relevant(query))
        positive = [own.documents[name] for name in own.qrels[query] if name in known]
        found = list(run.get(query, {}))[:12]
        samples.append({"query": text, "positive": positive})
        samples[-1]["negative"] = [own.documents[name] for name in found if name not in known]
        documents.append({"query": text, "positive": positive, "documents": [own.documents[name] for name in found]})
    answers = [kit.CERerankingEvaluator(samples, at_k=5, write_csv=False)(scorer())]
    for always in (False, True):
        options: dict[str, Any] = {"at_k": 5, "always_rerank_positives": always, "write_csv": False}
        answers += [kit.CrossEncoderRerankingEvaluator(own, **options)(scorer()) for own in (samples, documents)]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "NanoMSMARCO").symlink_to(Path(os.environ["CROSSENC_KIT_DATA"]) / "ranking")
        for always in (False, True):
            options = {"folder": folder, "split": "dev", "rerank_k": 10, "write_csv": False}
            nano = kit.CrossEncoderNanoBEIREvaluator(always_rerank_positives=always, **options)
            answers.append(nano(scorer()))
    return answers


@item("evaluate: sentence-transformers' evaluators of pairs", near=True)
def _() -> Any:
    own, classes = sts("dev"), nli("dev").select(range(200))
    hard = (own.labels > 0.5).astype(int).tolist()
    found = [kit.CEBinaryAccuracyEvaluator(own.texts, hard, threshold=0.4, write_csv=False)(scorer())]
    found += [kit.CEBinaryClassificationEvaluator(own.texts, hard, write_csv=False)(scorer())]
    found += [kit.CECorrelationEvaluator(own.texts, own.labels.tolist(), write_csv=False)(scorer())]
    for name in ("CEF1Evaluator", "CESoftmaxAccuracyEvaluator", "CrossEncoderClassificationEvaluator"):
        found += [getattr(kit, name)(classes.texts, classes.labels.tolist(), write_csv=False)(classifier())]
    found += [kit.CrossEncoderClassificationEvaluator(own.texts, hard, write_csv=False)(scorer())]
    return [*found, kit.CrossEncoderCorrelationEvaluator(own.texts, own.labels.tolist(), write_csv=False)(scorer())]


@item("evaluate: statistics", near=True)
def _() -> Any:
    draw = np.random.default_rng(4)
    ours, theirs, gold = draw.normal(size=60).round(1), draw.normal(size=60), draw.normal(size=60)
    found: list[Any] = [kit.pearson(ours, gold), kit.spearman(ours, gold)]
    found += [kit.bootstrap_interval(kit.spearman, ours, gold, resamples=100)]
    found += [kit.bootstrap_difference(kit.pearson, ours, theirs, gold, resamples=100)]
    found += [kit.randomisation_test(ours, theirs, resamples=500)]
    found += [list(kit.mcnemar(ours > 0, theirs > 0))]
    return [*found, list(kit.best_threshold(ours, (gold > 0).astype(int), "f1"))]


@item("evaluate: bootstrap and randomisation, to the bit")
def _() -> Any:
    draw = np.random.default_rng(6)
    ours, theirs = draw.normal(size=60), draw.normal(size=60)
    return [kit.bootstrap_interval(np.mean, ours, resamples=300), kit.randomisation_test(ours, theirs, resamples=900)]


@item("evaluate: calibration", near=True)
def _() -> Any:
    draw = np.random.default_rng(5)
    raw, labels = 3 * draw.normal(size=(90, 3)), draw.integers(0, 3, 90)
    shares = np.exp(raw) / np.exp(raw).sum(1, keepdims=True)
    curve = kit.reliability_curve(shares, labels)
    found = [curve.confidence, curve.frequency, curve.count, kit.expected_calibration_error(shares, labels)]
    found += [kit.fit_temperature(raw, labels), kit.fit_temperature(raw[:, 0], (labels > 0).astype(int))]
    return found


@item("evaluate: a calibrated model's temperature and scores")
def _() -> Any:
    model = train(nli(), "cross_entropy", tiny(3, label_names=nli().label_names))[0]
    value = kit.calibrate(model, nli("dev").select(range(200)))
    return [float(np.float32(getattr(value, "temperature", value))), model.predict(nli("dev").texts[:30]).round(5)]


@item("evaluate: probes and slices of errors")
def _() -> Any:
    found = []
    hard = replace(sts("dev"), labels=(sts("dev").labels > 0.5).astype(np.int64))
    for own, data in ((scorer(), hard), (classifier(), nli("dev").select(range(150)))):
        report = kit.probe(own, data, seed=1)
        rows = [fields(row, "name", "accuracy", "mean", "change", "absolute_change", "flipped") for row in report.rows]
        found.append([rows, report.scores])
        evaluated = kit.evaluate_classification(own, data, resamples=0)
        slices = kit.error_slices(evaluated, data, resamples=50)
        slices = getattr(slices, "slices", slices)
        found.append([fields(own, "by", "name", "count", "value", "interval") for own in slices])
    return found
