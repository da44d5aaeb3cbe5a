"""A bulk job that was stopped goes on with the same bits; damaged shards are named; another job is refused."""

import pytest
from small import PAIRS, ROWS, bits, write_lines

from crossenc_kit import score_file
from crossenc_kit.errors import CheckpointError
from crossenc_kit.inference import bulk, read_scores
from crossenc_kit.inference.bulk import BlockScorer


def test_a_job_goes_on_where_it_was_with_the_same_bits(tmp_path, model, pairs, scored, monkeypatch):
    monkeypatch.setattr(bulk, "CPU_ROWS", 3)  # a shard of 4 is blocks of 3 and 1
    score_file(model, pairs, tmp_path / "whole", shards=True, shard_size=4)
    assert [len(block) for block in scored] == [3, 1, 3, 1, 2]
    score, left = BlockScorer.score, [3]

    def dies(self, texts, *place):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return score(self, texts, *place)

    with monkeypatch.context() as patch:
        patch.setattr(BlockScorer, "score", dies)
        with pytest.raises(KeyboardInterrupt):
            score_file(model, pairs, tmp_path / "again", shards=True, shard_size=4)
    assert len(bits(tmp_path / "again")) == 1
    scored.clear()
    done = score_file(model, pairs, tmp_path / "again", shards=True, shard_size=4)
    assert [len(block) for block in scored] == [3, 1, 2]
    assert done.scored == 6
    assert bits(tmp_path / "again") == bits(tmp_path / "whole")
    scored.clear()
    assert score_file(model, pairs, tmp_path / "again", shards=True, shard_size=4).scored == 0
    assert scored == []


@pytest.mark.filterwarnings("ignore:the head of 'tiny' is new")
def test_a_model_with_a_new_head_goes_on_with_the_same_one(tmp_path, pairs, monkeypatch):
    options = {"shards": True, "shard_size": 4, "device": "cpu"}
    score_file("tiny", pairs, tmp_path / "once", **options)
    whole = bits(tmp_path / "once")
    assert score_file("tiny", pairs, tmp_path / "once", **options).scored == 0
    next((tmp_path / "once").glob("scores-00001-*")).unlink()
    with pytest.warns(UserWarning, match="is damaged"):
        assert score_file("tiny", pairs, tmp_path / "once", **options).scored == 4
    assert bits(tmp_path / "once") == whole
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        score_file("tiny", pairs, tmp_path / "shared", **options)
    assert bits(tmp_path / "shared") == whole


def damage_bits(folder):
    path = next(folder.glob("scores-00001-*"))
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.write_bytes(bytes(data))
    return "its sha256 is not the one"


def cut_short(folder):
    path = next(folder.glob("scores-00001-*"))
    path.write_bytes(path.read_bytes()[:100])
    return "its sha256 is not the one"


def lose_the_file(folder):
    next(folder.glob("scores-00001-*")).unlink()
    return "it cannot be read: No such file"


def break_the_manifest(folder):
    (folder / "_manifests" / "00001-of-00003.json").write_text('{"rows":')
    return "its manifest _manifests/00001-of-00003.json cannot be read"


def swap_manifests(folder):
    manifests = folder / "_manifests"
    (manifests / "00001-of-00003.json").write_bytes((manifests / "00000-of-00003.json").read_bytes())
    return "it belongs to another job or place"


@pytest.mark.parametrize("damage", [damage_bits, cut_short, lose_the_file, break_the_manifest, swap_manifests])
def test_a_damaged_shard_is_named_and_scored_again(tmp_path, model, pairs, scored, damage):
    folder = tmp_path / "scores"
    score_file(model, pairs, folder, shards=True, shard_size=4)
    before = bits(folder)
    what = damage(folder)
    scored.clear()
    with pytest.raises(CheckpointError, match=rf"1 of 3 shards are missing \(scores-00001-of-00003.parquet: {what}"):
        read_scores(folder)
    with pytest.warns(UserWarning, match=rf"scores-00001-of-00003.parquet is damaged \({what}"):
        score_file(model, pairs, folder, shards=True, shard_size=4)
    assert scored == [PAIRS[4:8]]
    assert bits(folder) == before


@pytest.mark.parametrize("content", ["", '{"rows": 10', "[]", '{"rows": 10, "shard_size": 4, "shards": 3}'])
def test_a_damaged_job_file_is_named_and_nothing_is_written_over(tmp_path, model, pairs, content):
    folder = tmp_path / "scores"
    score_file(model, pairs, folder, shards=True, shard_size=4)
    before = bits(folder)
    (folder / "_job.json").write_text(content)
    for use in (lambda: read_scores(folder), lambda: score_file(model, pairs, folder, shard_size=4)):
        with pytest.raises(CheckpointError, match=r"_job.json cannot be read .*move the folder aside and run"):
            use()
    assert bits(folder) == before


def test_another_input_model_or_setting_is_refused_by_name(tmp_path, model, classes, pairs):
    folder = tmp_path / "scores"
    usual = {"shards": True, "shard_size": 4, "keep": ["id"]}
    score_file(model, pairs, folder, **usual)
    before = bits(folder)
    changed = write_lines(tmp_path / "changed.jsonl", [*ROWS[:-1], {**ROWS[-1], "right": "other"}])
    for name, arguments, options in [
        ("input.sha256", (model, changed), {}),
        ("input.left", (model, pairs), {"columns": ["right", "left"]}),
        ("input.kept.id", (model, pairs), {"keep": []}),
        ("model.sha256", (classes, pairs), {}),
        ("activation", (model, pairs), {"activation_fn": "identity"}),
        ("batch_size", (model, pairs), {"batch_size": 2}),
        ("shard_size", (model, pairs), {"shard_size": 5}),
    ]:
        with pytest.raises(CheckpointError, match=rf"cannot resume, .*changed:(.|\n)*  {name}: "):
            score_file(*arguments, folder, **{**usual, **options})
    assert bits(folder) == before
    pairs.rename(tmp_path / "moved.jsonl")  # the same bytes
    assert score_file(model, tmp_path / "moved.jsonl", folder, **usual).scored == 0
