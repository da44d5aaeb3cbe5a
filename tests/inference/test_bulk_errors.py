"""What a bulk job refuses, what it warns of, and the command `crossenc-kit score` with a folder."""

import json
import warnings

import numpy as np
import pytest
from small import PAIRS, ROWS, write_lines

from crossenc_kit import CrossEncoder, DataError, score_file
from crossenc_kit.__main__ import main
from crossenc_kit.errors import CheckpointError, TruncationWarning
from crossenc_kit.inference import bulk, read_scores


def test_a_file_holds_json_lines_and_no_other_form(tmp_path, model, pairs):
    for name in ("scores.csv", "scores.tsv.gz", "scores.parquet"):
        with pytest.raises(ValueError, match="scores are written as JSON Lines or, in a folder/, as parquet"):
            score_file(model, pairs, tmp_path / name)
    score_file(model, pairs, tmp_path / "scores", progress=False)
    with pytest.raises(CheckpointError, match="scores is no folder of scores"):
        read_scores(tmp_path / "scores")


def test_rows_that_cannot_be_used_are_named_before_anything_is_scored(tmp_path):
    path = write_lines(tmp_path / "pairs.jsonl", [*ROWS[:3], {"left": "a"}, {"left": 7, "right": "b"}])
    with pytest.raises(
        DataError, match=r"line 4, column 'right': the text is missing .*\(2 of 5 rows have no two texts"
    ):
        score_file("no such model", path, tmp_path / "scores", shards=True)
    path.write_text(path.read_text() + "{broken\n")
    with pytest.raises(DataError, match="line 6: not JSON"):
        score_file("no such model", path, tmp_path / "scores.jsonl")
    with pytest.raises(DataError, match=r"columns is \['left', 'document'\]; expected two of id, left, right"):
        score_file("no such model", path, tmp_path / "scores.jsonl", columns=["left", "document"])
    assert not (tmp_path / "scores.jsonl").exists()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"keep": ["score"]}, ValueError, "cannot keep the column 'score' of .*: the scores use that name"),
        ({"keep": ["none"]}, DataError, "no column 'none' to keep; the columns are id, left, right, score"),
        ({"shard_size": 0}, ValueError, "shard_size must be a whole number, 1 or more, got 0"),
        ({"activation_fn": "softmax"}, ValueError, "softmax needs several classes"),
        ({"activation_fn": "sigmoidal"}, ValueError, "unknown activation 'sigmoidal'"),
        ({"activation_fn": lambda scores: scores}, ValueError, "is your own, and scores kept on the disk"),
        ({"device": "cpu"}, ValueError, "device is for a model given by its name"),
        ({"threads": 0}, ValueError, "threads must be a whole number, 1 or more, got 0"),
        ({"batch_size": 0}, ValueError, "batch_size must be a whole number, 1 or more, got 0"),
    ],
)
def test_arguments_that_make_no_sense(tmp_path, model, options, error, message):
    path = write_lines(tmp_path / "pairs.jsonl", [{**row, "score": 1} for row in ROWS])
    with pytest.raises(error, match=message):
        score_file(model, path, tmp_path / "scores", shards=True, **options)


def test_no_folder_is_made_for_an_input_that_is_not_there(tmp_path, model):
    with pytest.raises(FileNotFoundError, match=r"none.jsonl"):
        score_file(model, tmp_path / "none.jsonl", tmp_path / "scores", shards=True)
    assert list(tmp_path.iterdir()) == []


def test_outputs_that_cannot_be_written(tmp_path, model, pairs):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"cannot use .*file/scores: .*Make it writable or choose another folder"):
        score_file(model, pairs, tmp_path / "file" / "scores", shards=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "data.parquet").touch()
    with pytest.raises(CheckpointError, match=r"contains data.parquet, which no job here wrote; choose an empty"):
        score_file(model, pairs, tmp_path / "other")
    with pytest.raises(CheckpointError, match=r"is no folder of scores: there is no _job.json in it"):
        read_scores(tmp_path / "other")


def test_scores_are_not_written_over_their_input(tmp_path, model, pairs):
    before = pairs.read_bytes()
    (tmp_path / "soft.jsonl").symlink_to(pairs)
    (tmp_path / "hard.jsonl").hardlink_to(pairs)
    refused = "the scores would be written over the input"
    for path, output in [(pairs, pairs), (pairs, "soft.jsonl"), ("soft.jsonl", pairs), (pairs, "hard.jsonl")]:
        with pytest.raises(ValueError, match=refused):
            score_file("no such model", tmp_path / path, tmp_path / output)
    assert main(["score", model.folder, str(pairs), "--output", str(pairs)]) == 2
    assert pairs.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {pairs.name, "soft.jsonl", "hard.jsonl"}
    other = write_lines(tmp_path / "other.jsonl", [])
    score_file(model, pairs, other)  # an older file of scores is replaced
    assert len(other.read_text().splitlines()) == 10


def test_an_input_among_the_shards_is_refused_and_one_beside_them_is_not(tmp_path, model):
    folder = tmp_path / "folder"
    (folder / "_manifests").mkdir(parents=True)
    for name in ("scores-00000-of-00001.parquet", "_job.json", "_manifests/00000-of-00001.json"):
        path = write_lines(folder / name)
        (tmp_path / "link").symlink_to(path)
        for given in (path, tmp_path / "link"):
            with pytest.raises(ValueError, match=r"lies where the shards of .*folder are written; choose another"):
                score_file(model, given, folder)
        assert len(path.read_text().splitlines()) == 10
        (tmp_path / "link").unlink()
        path.unlink()
    pairs = write_lines(folder / "pairs.jsonl")
    score_file(model, pairs, folder)
    assert len(read_scores(folder)["score"]) == len(pairs.read_text().splitlines()) == 10


def test_a_full_disk_is_told_and_leaves_the_shards_before_it(tmp_path, model, pairs, monkeypatch):
    import os

    replace, moved = os.replace, []

    def full(source, target):
        if str(target).endswith(".parquet"):
            moved.append(target)
            if len(moved) > 1:
                raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(
        OSError, match=r"cannot write .*-00001-of-.* are whole \(No space left on device\); free"
    ) as error:
        score_file(model, pairs, tmp_path / "scores", shards=True, shard_size=4)
    assert error.value.errno == 28
    assert [path.name for path in (tmp_path / "scores").glob("*.parquet")] == ["scores-00000-of-00003.parquet"]
    assert list((tmp_path / "scores").glob(".*.partial")) == []


def test_a_file_that_changes_under_the_reader_is_an_error(tmp_path, model, pairs, monkeypatch):
    from crossenc_kit.inference.bulk import BlockScorer

    score = BlockScorer.score

    def appends(self, texts, *place):
        with open(pairs, "a") as file:
            file.write('{"left": "a", "right": "b"}\n')
        return score(self, texts, *place)

    monkeypatch.setattr(BlockScorer, "score", appends)
    with pytest.raises(DataError, match=r"pairs.jsonl was changed while it was read; run the job again"):
        score_file(model, pairs, tmp_path / "scores", shards=True, shard_size=4)


def test_cut_pairs_are_counted_once_and_over_a_resumed_job(tmp_path, model):
    path = write_lines(tmp_path / "pairs.jsonl", [{"left": "a b " * (row % 2) * 200, "right": "c"} for row in range(6)])
    expected = r"3 of 6 pairs exceed max_length=256 tokens and were cut"
    for _ in range(2):
        with pytest.warns(TruncationWarning) as told:
            score_file(model, path, tmp_path / "scores", shards=True, shard_size=2)
        assert [str(one.message) for one in told] == [expected]
    with pytest.warns(TruncationWarning, match=expected) as told:
        score_file(model, path, tmp_path / "scores.jsonl")
    assert len(told) == 1


def test_a_new_head_is_warned_of_once(tmp_path, pairs):
    with pytest.warns(UserWarning, match="the head of 'tiny' is new and untrained") as told:
        score_file("tiny", pairs, tmp_path / "scores.jsonl", device="cpu")
    assert [one.filename for one in told] == [__file__]


# --- scores that are not finite -------------------------------------------------------------------


@pytest.fixture(params=[1, 3])
def broken(request, monkeypatch):
    """A model of one score or three a pair that gives a NaN for the pair of row 5."""
    model, wrong = CrossEncoder("tiny", seed=0, device="cpu", num_labels=request.param), PAIRS[5]
    predict = model.predict

    def with_nan(texts, **options):
        scores = predict(texts, **options)
        scores.reshape(len(texts), -1)[[texts.index(wrong)] if wrong in texts else [], -1] = np.nan
        return scores

    monkeypatch.setattr(model, "predict", with_nan)
    return model


@pytest.mark.filterwarnings("ignore:the head of 'tiny' is new")
def test_the_row_of_a_score_that_is_not_finite_is_named(tmp_path, broken, pairs, monkeypatch):
    monkeypatch.setattr(bulk, "CPU_ROWS", 3)
    message = (
        r"the model 'tiny' gave .*nan.* for {} \(1 of {} scores are not finite\); its weights hold a NaN or .*float32"
    )
    named = message.format(r"row 5 \(from 0\) of .*pairs\.jsonl", "{}")
    with pytest.raises(DataError, match=named.format(3)):  # rows 3, 4, 5
        score_file(broken, pairs, tmp_path / "scores.jsonl")
    assert not (tmp_path / "scores.jsonl").exists()
    with pytest.raises(DataError, match=named.format(3)):  # a shard of rows 4 to 7, its first block
        score_file(broken, pairs, tmp_path / "scores", shards=True, shard_size=4)
    assert [path.name for path in (tmp_path / "scores").glob("*.parquet")] == ["scores-00000-of-00003.parquet"]
    with pytest.raises(CheckpointError, match="2 of 3 shards are missing"):
        read_scores(tmp_path / "scores")


def test_the_command_refuses_scores_of_a_broken_head(tmp_path, pairs, capsys):
    broken = CrossEncoder("tiny", seed=0, device="cpu")
    list(broken.model.parameters())[-1].data.fill_(float("nan"))  # the bias of its head
    broken.save_pretrained(tmp_path / "model")
    arguments = ["score", str(tmp_path / "model"), str(pairs), "--device", "cpu"]
    for output in ([], ["--output", str(tmp_path / "scores.jsonl")], ["--output", str(tmp_path / "scores") + "/"]):
        assert main([*arguments, *output]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert "gave nan for row 0 (from 0) of " in err
    assert [*tmp_path.glob("scores.jsonl"), *tmp_path.glob("scores/*.parquet")] == []


# --- the command ----------------------------------------------------------------------------------


def test_the_command_scores_into_a_folder_and_goes_on(tmp_path, model, pairs, capsys):
    folder = str(tmp_path / "scores") + "/"
    arguments = ["score", model.folder, str(pairs), "--output", folder, "--keep", "id", "--shard-size", "4"]
    arguments += ["--activation", "identity", "--device", "cpu", "--threads", "1"]
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "crossenc-kit: 10 of 10 pairs scored now" in err
    assert "; 3 shards in " in err
    np.testing.assert_allclose(read_scores(folder)["score"], model.predict(PAIRS, activation_fn="identity"), atol=1e-6)
    next(tmp_path.glob("scores/scores-00001-*")).unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert main(arguments) == 0
    assert "crossenc-kit: 4 of 10 pairs scored now" in capsys.readouterr().err
    assert main([*arguments[:-6], "--device", "cpu"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("crossenc-kit: cannot resume, 1 setting(s) changed: activation: ")
    assert " now. Give these settings " in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shard-size", "0"], "shard_size must be a whole number, 1 or more, got 0"),
        (["--threads", "0"], "threads must be a whole number, 1 or more, got 0"),
        (["--device", "nope"], "this machine has no device 'nope': "),
        (["--activation", "nope"], "use 'sigmoid', 'identity' or a module of torch.nn"),
    ],
)
@pytest.mark.parametrize("output", ["scores/", "scores.jsonl"])
def test_the_command_refuses_settings_without_a_meaning(tmp_path, model, pairs, capsys, options, message, output):
    assert main(["score", model.folder, str(pairs), "--output", str(tmp_path / output), *options]) == 2
    assert message in capsys.readouterr().err
    assert [*tmp_path.glob("scores/*.parquet"), *tmp_path.glob("scores.jsonl")] == []


def test_the_command_prints_what_is_kept_and_refuses_shards_without_a_folder(tmp_path, model, pairs, capsys):
    assert main(["score", model.folder, str(pairs), "--keep", "id", "--device", "cpu"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["id"] for row in rows] == [row["id"] for row in ROWS]
    assert main(["score", model.folder, str(pairs), "--shards"]) == 2
    assert capsys.readouterr().err == "crossenc-kit: shards need a folder to be in: give --output FOLDER\n"
    assert main(["score", "./none", str(pairs)]) == 2
    assert "no folder './none'" in capsys.readouterr().err
