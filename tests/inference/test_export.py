"""Exports: drift by hand, refused where it is large, ONNX beside torch, folders that hold one model."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from scipy import stats
from small_models import fitted, pairs_of_all_lengths, save_classifier, words

from crossenc_kit import CrossEncoder, TrainingConfig, export_model, make_student, match_layers, train
from crossenc_kit.errors import BackboneError, DriftError
from crossenc_kit.inference.export import BOUNDS, check_drift, measure_drift

MANY = [(words(3 + i % 7, i), words(2 + i % 5, i + 50)) for i in range(60)]
PAIRS = pairs_of_all_lengths()


@pytest.fixture(scope="module")
def model():
    return fitted()


@pytest.fixture(scope="module")
def onnx(model, tmp_path_factory):
    """A folder with both ONNX files, and the reports."""
    folder = tmp_path_factory.mktemp("exports") / "onnx"
    reports = [export_model(model, folder, kind, pairs=MANY, repeats=1) for kind in ("onnx", "onnx-int8")]
    return folder, reports


# --- drift ----------------------------------------------------------------------------------------


def test_drift_by_hand():
    drift = measure_drift([0.0, 1.0, 2.0, 3.0], [0.5, 1.0, 3.5, 3.0])
    assert (drift.largest, drift.mean, drift.pairs, drift.agreement) == (1.5, 0.5, 4, None)
    assert drift.spread == pytest.approx(np.sqrt(1.25))
    assert drift.relative == pytest.approx(1.5 / np.sqrt(1.25))
    assert drift.spearman == pytest.approx(0.8)  # 3 and 4 change places
    classes = measure_drift([[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.6, 0.5]])
    assert classes.agreement == 0.5
    assert json.loads(json.dumps(classes.to_dict()))["largest"] == pytest.approx(0.6)


def test_the_rank_correlation_is_scipys():
    exact, other = np.random.default_rng(0).normal(size=(2, 50))
    assert measure_drift(exact, other).spearman == pytest.approx(stats.spearmanr(exact, other)[0])


def test_no_drift_and_constant_scores():
    assert measure_drift([1.0, 1.0], [1.0, 1.0]).relative == 0
    assert measure_drift([1.0, 1.0], [1.0, 2.0]).relative == np.inf
    tenths = measure_drift([0.1] * 3, [0.1, 0.1, np.float32(0.1)])  # whose mean is not 0.1 in float64
    assert (tenths.spread, tenths.relative, tenths.spearman, tenths.is_rounding) == (0, 0, 1, True)
    check_drift("onnx", tenths, BOUNDS["onnx"])


def test_scores_that_are_equal_but_for_rounding_pass_and_others_that_hardly_differ_do_not():
    exact = 0.5 + np.linspace(-1e-4, 1e-4, 40)  # standard deviation 6e-5
    near = measure_drift(exact, exact + np.tile([1.2e-7, -1.2e-7], 20))
    assert near.relative == pytest.approx(2e-3, rel=0.05)
    check_drift("onnx", near, BOUNDS["onnx"])
    with pytest.raises(DriftError, match="moves the scores too far"):
        check_drift("onnx", measure_drift(exact, exact + 1e-5), BOUNDS["onnx"])
    with pytest.raises(DriftError, match=r"Spearman 0\.00000"):
        check_drift("onnx", measure_drift([0.5] * 4, [0.5, 0.5, 0.5, 0.50001]), BOUNDS["onnx"])


@pytest.mark.parametrize(
    ("exact", "other", "message"),
    [
        ([1.0], [1.0], r"shapes \(1,\) and \(1,\); drift needs the scores of at least two pairs"),
        ([1.0, 2.0], [1.0], r"shapes \(2,\) and \(1,\)"),
        ([1.0, 2.0], [1.0, np.nan], "the other model gave nan for row 1"),
    ],
)
def test_what_has_no_drift(exact, other, message):
    with pytest.raises(ValueError, match=message):
        measure_drift(exact, other)


# --- int8 -----------------------------------------------------------------------------------------


def test_an_int8_folder_scores_like_the_model_and_says_how_nearly(model, tmp_path):
    report = export_model(model, tmp_path / "fast", pairs=MANY, repeats=1)
    fast = CrossEncoder(tmp_path / "fast")
    difference = np.abs(fast.predict(MANY) - model.predict(MANY))
    assert fast.backend == "int8"
    assert report.drift.largest == pytest.approx(float(difference.max()), abs=1e-6)
    assert report.drift.spearman > 0.99
    assert report.size < 0.5 * report.float_size
    assert "Spearman" in str(report)
    record = json.loads((tmp_path / "fast/export.json").read_text())["int8"]
    assert record["drift"]["pairs"] == len(MANY)
    assert record["speed"]["gain"] > 0
    assert "export.json" in (tmp_path / "fast/README.md").read_text()


def test_too_much_drift_is_refused_with_the_numbers_and_nothing_is_written(model, tmp_path):
    with pytest.raises(DriftError, match=r"int8 moves the scores .* 60 pairs: largest .* Spearman 0\.9.*allow_drift"):
        export_model(model, tmp_path / "fast", pairs=MANY, max_drift=1e-6, repeats=1)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DriftError) as caught:
        export_model(model, tmp_path / "fast", pairs=MANY, min_spearman=1.1, repeats=1)
    assert caught.value.drift.spearman > 0.99
    export_model(model, tmp_path / "fast", pairs=MANY, max_drift=1e-6, allow_drift=True, repeats=1)
    assert (tmp_path / "fast/model_int8.safetensors").is_file()


def test_a_sigmoid_that_saturates_hides_no_drift(tmp_path):
    model = fitted()
    model.model.classifier.bias.data += 30  # rankings do not notice, and every score is 1
    assert set(model.predict(MANY)) == {1.0}
    with pytest.raises(DriftError, match=r"int8, before the activation, moves .* 60 pairs: largest 0\.\d"):
        export_model(model, tmp_path / "fast", pairs=MANY, max_drift=1e-6, repeats=1)
    assert list(tmp_path.iterdir()) == []
    export_model(model, tmp_path / "fast", pairs=MANY, repeats=1)


def test_beside_its_own_float32_weights_and_nobody_elses(model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    card = (tmp_path / "model/README.md").read_text()
    loaded = CrossEncoder(tmp_path / "model", device="cpu")
    export_model(loaded, tmp_path / "model", pairs=MANY, repeats=1)
    assert CrossEncoder(tmp_path / "model").backend == "torch"
    assert CrossEncoder(tmp_path / "model", backend="int8").backend == "int8"
    assert (tmp_path / "model/README.md").read_text() == card
    other = fitted(activation_fn="identity")
    other.model.classifier.bias.data += 1
    with pytest.raises(ValueError, match=r"holds model.safetensors of another or an"):
        export_model(other, tmp_path / "model", pairs=MANY, repeats=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "fp8"}, "backend is 'fp8'; expected one of int8, onnx, onnx-int8"),
        ({"pairs": [("a", "b")]}, "at least two pairs"),
    ],
)
def test_wrong_arguments(model, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        export_model(model, tmp_path / "fast", **{"pairs": MANY, **options})


def test_what_is_not_exported(model, tmp_path):
    with pytest.raises(ValueError, match="new and untrained"):
        export_model(CrossEncoder("tiny", 1, seed=0, device="cpu"), tmp_path / "fast", pairs=MANY)
    export_model(model, tmp_path / "fast", pairs=MANY, repeats=1)
    with pytest.raises(ValueError, match="exported already, as int8"):
        export_model(CrossEncoder(tmp_path / "fast"), tmp_path / "again", pairs=MANY)


def test_a_folder_that_cannot_be_written(model, tmp_path):
    (tmp_path / "file").write_text("here already")
    with pytest.raises(OSError, match=r"cannot write into .*file is a file"):
        export_model(model, tmp_path / "file", pairs=MANY)


# --- ONNX -----------------------------------------------------------------------------------------


def test_onnx_scores_are_those_of_torch_in_any_company(model, onnx):
    folder, (report, _) = onnx
    fast = CrossEncoder(folder, backend="onnx")
    assert (fast.backend, str(fast.device)) == ("onnx", "cpu")
    for pairs in (PAIRS, MANY):
        assert np.allclose(fast.predict(pairs), model.predict(pairs), rtol=0, atol=1e-5)
    together = fast.predict(PAIRS)
    assert np.allclose([fast.predict(pair) for pair in PAIRS], together, rtol=0, atol=1e-6)
    assert report.drift.largest < 1e-5
    assert fast.rank("a", ["b", "c"], return_documents=True)[0].keys() == {"corpus_id", "score", "text"}


def test_int8_in_onnx_is_int8_in_torch(model, onnx, tmp_path):
    folder, (_, report) = onnx
    fast = CrossEncoder(folder, backend="onnx-int8")
    export_model(model, tmp_path / "int8", pairs=MANY, repeats=1)
    assert np.allclose(fast.predict(MANY), CrossEncoder(tmp_path / "int8").predict(MANY), rtol=0, atol=1e-2)
    assert np.allclose([fast.predict(pair) for pair in PAIRS], fast.predict(PAIRS), rtol=0, atol=1e-6)
    assert report.size < 0.7 * report.float_size
    assert report.drift.spearman > 0.99


@pytest.mark.parametrize("family", ["roberta", "distilbert"])
def test_other_families(family, tmp_path):
    model = CrossEncoder(save_classifier(tmp_path / "model", family, num_labels=3), device="cpu")
    export_model(model, tmp_path / "fast", "onnx", pairs=MANY, repeats=1)
    fast = CrossEncoder(tmp_path / "fast", max_length=model.max_length)
    assert np.allclose(fast.predict(PAIRS), model.predict(PAIRS), rtol=0, atol=1e-5)


def test_the_files_have_the_names_of_the_hub_and_no_path_of_this_machine(onnx):
    folder, _ = onnx
    assert sorted(path.name for path in (folder / "onnx").iterdir()) == ["model.onnx", "model_int8.onnx"]
    assert all(b"site-packages" not in path.read_bytes() for path in (folder / "onnx").iterdir())
    assert set(json.loads((folder / "export.json").read_text())) == {"onnx", "onnx-int8"}


def test_a_folder_with_several_exports_asks_for_a_choice(onnx):
    with pytest.raises(BackboneError, match="holds onnx and onnx-int8, and no float32 weights"):
        CrossEncoder(onnx[0])


def test_a_folder_of_exports_alone_has_nothing_for_torch(onnx):
    message = r"holds onnx and onnx-int8, and no float32 weights; choose .*backend='onnx'\)"
    with pytest.raises(BackboneError, match=message):
        CrossEncoder(onnx[0], backend="torch")


def test_an_onnx_model_is_saved_again_and_not_trained(onnx, tmp_path):
    fast = CrossEncoder(onnx[0], backend="onnx")
    fast.save_pretrained(tmp_path / "copy")
    assert np.array_equal(CrossEncoder(tmp_path / "copy").predict(MANY), fast.predict(MANY))
    with pytest.raises(ValueError, match="backend='onnx' cannot be trained"):
        train(fast, [("a", "b", 1.0)] * 4, "bce", TrainingConfig())
    for work in (lambda: make_student(fast, 1), lambda: match_layers(fitted(), fast, MANY)):
        with pytest.raises(ValueError, match=r"\(onnx\).* the float32 model"):
            work()
    with pytest.raises(ValueError, match="runs on the CPU"):
        fast.to("cuda")


def test_a_missing_and_a_damaged_file(model, onnx, tmp_path):
    model.save_pretrained(tmp_path / "plain")
    with pytest.raises(BackboneError, match=r"has no onnx/model.onnx; make it from a float32 model: export_model"):
        CrossEncoder(tmp_path / "plain", backend="onnx")
    CrossEncoder(onnx[0], backend="onnx").save_pretrained(tmp_path / "cut")
    file = tmp_path / "cut/onnx/model.onnx"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(BackboneError, match=r"onnxruntime cannot open .*model.onnx.* \(1000 bytes\).*export the model"):
        CrossEncoder(tmp_path / "cut")


def test_without_onnxruntime(onnx, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        ImportError, match=r"needs onnxruntime, which is not installed: pip install .crossenc_kit\[onnx\]"
    ):
        CrossEncoder(onnx[0], backend="onnx")


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_without_what_the_exporter_needs(model, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        ImportError, match=rf"needs {package}, which is not installed: pip install .crossenc_kit\[onnx\]"
    ):
        export_model(model, tmp_path / "fast", "onnx", pairs=MANY)
    assert list(tmp_path.iterdir()) == []
