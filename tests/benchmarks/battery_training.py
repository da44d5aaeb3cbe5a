"""The battery's items of training: weights and every row of the history after some steps."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from battery_adapters import ask, item, kit, pairs_told, rows_of, sha_of, weights
from battery_inputs import collection, lists, nli, scorer, shares, sts, teacher_scores, tiny, train


@item("train: STS")
def _() -> Any:
    return train(sts())[1]


@item("train: STS, token budget, accumulation, layer decay, cosine")
def _() -> Any:
    more: dict[str, Any] = {"layer_decay": 0.8, "head_factor": 3.0, "scheduler": "cosine", "dropout": 0.2}
    return train(sts(), "sigmoid_mse", token_budget=150, accumulation=3, batch_size=4, **more)[1]


@item("train: STS, evaluator, best weights, patience", near=False)
def _() -> Any:
    def wave(model: Any) -> dict[str, float]:
        score = float(np.mean(model.predict(sts("dev").texts[:6], threads=1)))
        return {"wave": float(np.sin(1e4 * score)), "mean": score}

    return train(sts(), evaluator=wave, evaluation_steps=2, patience=4, evaluate_first=True)[1]


@item("train: STS, mse, bf16, fixed plan of batches")
def _() -> Any:
    model = tiny(activation_fn="identity")
    plan = [np.arange(8 * step, 8 * step + 8) for step in range(20)]
    config = kit.TrainingConfig(batch_size=8, learning_rate=1e-3, precision="bf16")
    result = kit.train(model, sts(), "mse", config, batches=lambda epoch: plan)
    return [weights(model), rows_of(result.history)]


@item("train: STS, minilm")
def _() -> Any:
    model = kit.CrossEncoder("minilm", num_labels=1, seed=0, device="cpu")
    return train(sts(), model=model, learning_rate=5e-5)[1]


@item("train: NLI, balanced weights, smoothing")
def _() -> Any:
    model = tiny(3, label_names=nli().label_names)
    loss = kit.loss_with("cross_entropy", class_weights="balanced", label_smoothing=0.1)
    return train(nli(), loss, model, accumulation=2, token_budget=200)[1]


@item("train: NLI, cross-entropy")
def _() -> Any:
    return train(nli(), "cross_entropy", tiny(3, label_names=nli().label_names))[1]


for _name, _options in {
    "group_cross_entropy": {},
    "listnet": {},
    "listmle": {},
    "position_aware_listmle": {},
    "approx_ndcg": {"temperature": 0.5},
    "lambda_loss": {"k": 5},
    "ranknet": {"sigma": 2.0, "mean_over": "pairs"},
}.items():

    @item(f"train: lists, {_name} {_options or ''}")
    def _(name: str = _name, options: dict[str, Any] = _options) -> Any:
        return train(lists(), kit.loss_with(name, **options), batch_size=2, token_budget=200)[1]


@item("train: lists, BCE on each candidate")
def _() -> Any:
    return train(shares(), kit.loss_with("bce", positive_weight="balanced"), batch_size=2)[1]


@item("train: lists, negatives from the batch")
def _() -> Any:
    return train(lists(), kit.loss_with("group_cross_entropy", in_batch=2), batch_size=2, accumulation=2)[1]


@item("train: lists, all negatives from the batch, cached scores")
def _() -> Any:
    return train(lists(3), kit.loss_with("group_cross_entropy", in_batch="all"), batch_size=2, cached_pairs=5)[1]


@item("train: negatives drawn anew each epoch")
def _() -> Any:
    own = collection("train")
    some = list(own.queries)[:24]
    queries = {name: own.queries[name] for name in some}
    documents = {name: " ".join(text.split()[:12]) for name, text in own.documents.items()}
    own = kit.Collection(queries=queries, documents=documents, qrels={name: own.qrels[name] for name in some})
    given = {"collection": own, "queries": own.queries, "documents": own.documents, "qrels": own.qrels}
    mined = ask(kit.mine_hard_negatives, given, num_negatives=3, sampling="random", range_max=20)
    data = kit.negatives_by_epoch(mined)
    return [pairs_told(data(1)), train(data, "multiple_negatives", batch_size=len(data(0)) // 8, max_steps=12)[1]]


@item("train: a teacher's scores and gold, pairs")
def _() -> Any:
    data = kit.with_teacher_scores(sts(), teacher_scores(sts()), gold=True)
    return train(data, kit.distillation_loss("mse", gold="bce", alpha=0.3))[1]


@item("train: a teacher's scores and gold, classes")
def _() -> Any:
    pairs = nli().select(range(300))
    data = kit.with_teacher_scores(pairs, np.random.default_rng(0).normal(size=(300, 3)), gold=True)
    return train(data, kit.distillation_loss("kl_divergence", gold="cross_entropy", temperature=2.0), tiny(3))[1]


@item("train: a teacher's scores and gold, lists")
def _() -> Any:
    data = kit.with_teacher_scores(shares(), teacher_scores(lists()), gold=True)
    lone = kit.with_teacher_scores(lists(), teacher_scores(lists()))
    mixed = [kit.distillation_loss("kl_divergence", gold="group_cross_entropy", temperature=2.0)]
    mixed += [kit.distillation_loss("margin_mse", gold="bce", alpha=0.6)]
    found = [train(data, loss, batch_size=2, max_steps=12)[1] for loss in mixed]
    return found + [
        train(lone, loss, batch_size=2, max_steps=12)[1] for loss in ("margin_mse", "kl_divergence", "adr_mse")
    ]


@item("train: fit, the older call")
def _() -> Any:
    from torch.utils.data import DataLoader

    examples = [
        kit.InputExample(texts=list(texts), label=float(y)) for texts, y in zip(sts().texts, sts().labels, strict=True)
    ]
    torch.manual_seed(5)
    model = tiny()
    loader: Any = DataLoader(examples[:160], shuffle=True, batch_size=8)
    model.fit(loader, epochs=1, warmup_steps=4, optimizer_params={"lr": 1e-3}, show_progress_bar=False)
    return weights(model)


@item("train: LoRA adapter, merged")
def _() -> Any:
    from peft import LoraConfig, get_peft_model

    model = tiny()
    torch.manual_seed(2)
    settings = LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query", "value"], modules_to_save=["classifier"])
    model.model = get_peft_model(model.model, settings)
    trained = train(sts(), model=model)[1]
    scores = model.predict(sts("dev").texts[:50], threads=1)
    kit.merge_adapters(model)
    return [trained, scores, weights(model), model.predict(sts("dev").texts[:50], threads=1)]


@item("train: killed at a checkpoint and resumed")
def _() -> Any:
    whole = train(sts(), token_budget=150)[1]
    with tempfile.TemporaryDirectory() as folder:
        settings = {"batch_size": 8, "max_steps": 20, "epochs": 9, "learning_rate": 1e-3, "token_budget": 150}
        config = kit.TrainingConfig(**settings, save_steps=5, output_dir=folder, resume=True)
        process = os.fork()
        if process == 0:
            kit.train(tiny(), sts(), "bce", config, on_row=lambda row: row["step"] == 12 and os.kill(os.getpid(), 9))
            os._exit(1)  # not reached: killed after step 12, with a checkpoint of step 10
        os.waitpid(process, 0)
        model, killed = tiny(), sorted(path.name for path in (Path(folder) / "checkpoints").iterdir())
        result = kit.train(model, sts(), "bce", config)
        files = {name: sha_of(Path(folder) / name) for name in ("last/model.safetensors", "last/config.json")}
        resumed = {"weights": weights(model), "history": rows_of(result.history)}
    assert resumed["weights"] == whole["weights"], "a resumed run differs from an uninterrupted one"
    return [whole, resumed, killed, files]


@item("train: a student cut from a model, its layers matched")
def _() -> Any:
    teacher = scorer()
    student = kit.make_student(teacher, 1)
    cut = weights(student)
    given = {"student": student, "teacher": teacher, "pairs": sts().select(range(64))}
    config = kit.TrainingConfig(batch_size=8, learning_rate=1e-3, token_budget=300)
    found = ask(kit.match_layers, given, config=config)
    return [cut, weights(student), rows_of(getattr(found, "history", found))]
