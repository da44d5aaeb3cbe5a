"""Teacher scores: what is cached, under which key, and what is seen of damage."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from small import Lengths

from crossenc_kit import CrossEncoder, as_pairs, cached_scores
from crossenc_kit.errors import CheckpointError
from crossenc_kit.inference import read_scores, score_store
from crossenc_kit.inference.score_store import SPEED
from crossenc_kit.scorers import fingerprint

pytestmark = pytest.mark.filterwarnings("ignore:the head of 'tiny' is new")

PAIRS = [(f"query {row // 3}", f"document {row}") for row in range(10)]


def shards_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("teacher-*/*.parquet"))


def cached(scorer, folder, pairs=PAIRS, **options):
    return cached_scores(scorer, pairs, folder, **{"teacher": "lengths-1", "shard_size": 4, **options})


class TestCache:
    def test_each_pair_is_scored_once(self, tmp_path):
        scorer = Lengths()
        expected = Lengths()(PAIRS)
        assert cached(scorer, tmp_path).tolist() == expected.tolist()
        assert scorer.asked == PAIRS
        assert cached(scorer, tmp_path).tolist() == expected.tolist()
        assert scorer.asked == PAIRS
        assert len(shards_in(tmp_path)) == 3

    def test_only_what_is_missing_is_scored(self, tmp_path):
        before = cached(Lengths(), tmp_path)
        (lost,) = tmp_path.glob(f"teacher-*/scores-{score_store.block_key(PAIRS[4:8])}.parquet")
        lost.unlink()
        scorer = Lengths()
        with pytest.warns(UserWarning, match="is damaged .it cannot be read: No such file"):
            assert cached(scorer, tmp_path).tolist() == before.tolist()
        assert scorer.asked == PAIRS[4:8]

    def test_pairs_added_at_the_end_leave_the_full_shards(self, tmp_path):
        cached(Lengths(), tmp_path)
        scorer, more = Lengths(), [*PAIRS, ("new", "one")]
        assert cached(scorer, tmp_path, more).tolist() == Lengths()(more).tolist()
        assert scorer.asked == more[8:]

    @pytest.mark.parametrize("change", [{"teacher": "lengths-2"}, {"settings": {"add": 1.0}}, {"pairs": PAIRS[1:]}])
    def test_another_teacher_setting_or_text_shares_nothing(self, tmp_path, change):
        cached(Lengths(), tmp_path)
        scorer = Lengths(factor=2.0)
        scores = cached(scorer, tmp_path, **change)
        pairs = change.get("pairs", PAIRS)
        assert scores.tolist() == Lengths(factor=2.0)(pairs, **change.get("settings", {})).tolist()
        assert scorer.asked == pairs

    @pytest.mark.parametrize("moved", [("ab", "c"), ("a", "bc"), ("1:a", "bc")])
    def test_texts_that_run_together_are_told_apart(self, tmp_path, moved):
        cached(Lengths(), tmp_path, [("abc", "")])
        assert cached(Lengths(), tmp_path, [moved]).tolist() == Lengths()([moved]).tolist()

    @pytest.mark.parametrize("columns", [0, 1, 3])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_scores_come_back_as_they_were_given(self, tmp_path, columns, dtype):
        scores = np.random.default_rng(0).normal(size=(10, columns) if columns else 10).astype(dtype)
        numbers = {pair: row for row, pair in enumerate(PAIRS)}

        def scorer(pairs):
            return scores[[numbers[pair] for pair in pairs]]

        for found in (cached(scorer, tmp_path), cached(None, tmp_path)):
            np.testing.assert_array_equal(found, scores, strict=True)

    def test_whole_numbers_lists_and_no_pairs(self, tmp_path):
        assert cached(lambda pairs: [1] * len(pairs), tmp_path).tolist() == [1.0] * 10
        assert cached(Lengths(), tmp_path, []).shape == (0,)

    def test_settings_that_count_and_those_that_do_not(self, tmp_path):
        def scorer(pairs, scale=1, **speed):
            assert set(speed) <= SPEED
            return [scale * speed.get("batch_size", 0)] * len(pairs)

        assert cached(scorer, tmp_path, settings={"batch_size": 2})[0] == 2
        assert cached(scorer, tmp_path, settings={"batch_size": 8})[0] == 2  # from the cache
        assert cached(scorer, tmp_path, settings={"batch_size": 8, "scale": 3})[0] == 24
        with pytest.raises(ValueError, match=r"no cache can be looked up by the settings \{'scale': <function"):
            cached(scorer, tmp_path, settings={"scale": scorer})

    def test_groups_are_scored_as_their_pairs(self, tmp_path):
        grouped = as_pairs([{"query": "q", "documents": ["a", "bb"]}, {"query": "qq", "documents": ["c"]}])
        assert (
            cached(Lengths(), tmp_path, grouped).tolist() == Lengths()([("q", "a"), ("q", "bb"), ("qq", "c")]).tolist()
        )

    def test_what_the_folder_says(self, tmp_path):
        cached(Lengths(), tmp_path, settings={"add": 1.0})
        (described,) = tmp_path.glob("teacher-*/_job.json")
        plan = {"teacher": {"name": "lengths-1", "fingerprint": None}, "settings": {"add": 1.0}}
        assert json.loads(described.read_text()) == {"plan": plan}
        sha256 = hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()
        assert described.parent.name == f"teacher-{sha256[:24]}"
        for shard in shards_in(tmp_path):
            key = shard.stem.removeprefix("scores-")
            told = json.loads((shard.parent / "_manifests" / f"{key}.json").read_text())
            assert (told["shard"], told["plan"]) == (key, sha256)
            assert told["sha256"] == hashlib.sha256(shard.read_bytes()).hexdigest()
        with pytest.raises(CheckpointError, match="keeps a teacher's scores; call cached_scores to read them"):
            read_scores(described.parent)

    def test_progress(self, tmp_path, capfd):
        cached(Lengths(), tmp_path, show_progress_bar=True)
        assert "teacher scores: 100%" in capfd.readouterr().err
        cached(Lengths(), tmp_path)
        assert capfd.readouterr().err == ""


class TestFingerprint:
    def test_a_saved_model_is_the_same_teacher_in_both_libraries(self, tmp_path):
        model = CrossEncoder("tiny", num_labels=1, seed=0)
        before = fingerprint(model)
        assert len(before) == 64
        model.predict(PAIRS)  # pads and cuts
        model.save_pretrained(tmp_path / "model")
        assert fingerprint(model.predict) == before
        assert fingerprint(CrossEncoder(tmp_path / "model")) == before
        peer = pytest.importorskip("sentence_transformers").CrossEncoder(str(tmp_path / "model"), device="cpu")
        assert fingerprint(peer) == before
        scores = cached_scores(peer, PAIRS, tmp_path / "cache")
        np.testing.assert_allclose(scores, model.predict(PAIRS), atol=1e-6)
        assert cached_scores(model, PAIRS, tmp_path / "cache").tolist() == scores.tolist()  # found, not computed

    @pytest.mark.parametrize(
        "change", ["weight", "half", "max_length", "truncation", "activation", "config", "vocabulary"]
    )
    def test_what_changes_scores_changes_it(self, change):
        model = CrossEncoder("tiny", num_labels=2, seed=0, max_length=32)
        before = fingerprint(model)
        with torch.no_grad():
            if change == "weight":
                model.model.classifier.bias[0] += 1e-6
            elif change == "half":
                model.model.half()
        if change == "max_length":
            model.max_length = 31
        elif change == "truncation":
            model.truncation = "only_second"
        elif change == "activation":
            model.activation_fn = torch.nn.Softmax(dim=1)
        elif change == "config":
            model.config.hidden_act = "relu"
        elif change == "vocabulary":
            model.tokenizer.add_tokens(["zebra"])
        assert fingerprint(model) != before

    def test_an_adapter_counts_and_its_scale_too(self):
        peft = pytest.importorskip("peft")
        found = set()
        for alpha in (4, 8):
            model = CrossEncoder("tiny", num_labels=1, seed=0)
            torch.manual_seed(0)
            settings = peft.LoraConfig(task_type="SEQ_CLS", r=2, lora_alpha=alpha, target_modules=["query"])
            model.model = peft.get_peft_model(model.model, settings)
            found.add(fingerprint(model))
        assert len(found) == 2

    def test_others_need_a_name(self, tmp_path):
        with pytest.raises(ValueError, match='Lengths has no version to go by: give teacher="name-and-version"'):
            cached_scores(Lengths(), PAIRS, tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_an_activation_of_the_caller_s_own_needs_a_name(self, tmp_path):
        class Scaled(torch.nn.Module):
            def forward(self, scores):
                return scores / 3

        model = CrossEncoder("tiny", num_labels=1, seed=0, activation_fn=torch.nn.Sequential(Scaled()))
        with pytest.raises(ValueError, match="is your own, and scores kept on the disk"):
            cached_scores(model, PAIRS, tmp_path)
        assert len(cached_scores(model, PAIRS, tmp_path, teacher="scaled-3")) == 10

    def test_a_name_does_not_hide_other_weights(self, tmp_path):
        scores = [
            cached_scores(CrossEncoder("tiny", num_labels=1, seed=seed), PAIRS, tmp_path, teacher="mine")
            for seed in (0, 1)
        ]
        assert scores[0].tolist() != scores[1].tolist()

    def test_raw_scores_of_a_model_and_one_warning_for_what_was_cut(self, tmp_path):
        model = CrossEncoder("tiny", num_labels=1, seed=0, max_length=12)
        pairs = [(left, right * 3) for left, right in PAIRS]
        with pytest.warns(
            UserWarning, match=r"^10 of the 10 pairs that were scored exceed the teacher's max_length"
        ) as w:
            raw = cached_scores(model, pairs, tmp_path, shard_size=4, settings={"activation_fn": "identity"})
        assert [entry.filename for entry in w if "exceed" in str(entry.message)] == [__file__]
        with pytest.warns(UserWarning, match="exceed max_length"):
            np.testing.assert_allclose(raw, model.predict(pairs, activation_fn="identity"), atol=1e-6)

    def test_options_that_do_not_fit(self, tmp_path):
        with pytest.raises(ValueError, match="shard_size must be a whole number, 1 or more"):
            cached(Lengths(), tmp_path, shard_size=0)
