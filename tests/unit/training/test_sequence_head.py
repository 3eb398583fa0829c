"""A sequence head from training to the page: one bundle with two graphs, of which the second counts for the study."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra [train]")
import torch

from ich_node.domain.errors import ModelError
from ich_node.domain.findings import LABELS
from ich_node.domain.reasons import Why
from ich_node.infer import bundle, pipeline
from ich_node.infer.engine import Output, self_test
from ich_node.infer.engine.ort import OrtEngine
from ich_node.phantom import head as heads
from ich_node.phantom import series
from ich_node.report import result_json
from ich_node.report.said.reasons import said
from ich_node.runtime.config import Config
from ich_node.training.evaluate import metrics
from ich_node.training.learn import calibrate, export, sequence
from ich_node.training.learn.network import CHANNELS, Network
from ich_node.training.learn.sequence import Series

pytestmark = pytest.mark.train
SLICES = 12
SHIPPED = Path(__file__).resolve().parents[3] / "onnx"


def runs_and_single_slices(count, seed):
    """Series in which blood crosses three slices, and healthy ones in which a single slice shines as brightly."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        ill = number % 2
        at = int(rng.integers(2, SLICES - 3))
        logits = rng.normal(-3, 0.5, (SLICES, 6)).astype(np.float32)
        labels = np.zeros((SLICES, 6), np.float32)
        logits[at, :2] = 3 + rng.normal(0, 0.3)
        if ill:
            logits[at - 1 : at + 2, :2] = 1 + rng.normal(0, 0.3)
            labels[at - 1 : at + 2, :2] = 1
        made.append(Series(rng.normal(0, 0.1, (SLICES, CHANNELS)).astype(np.float32), logits, labels))
    return made


@pytest.fixture(scope="module")
def trained():
    return sequence.train(runs_and_single_slices(60, 1), steps=250, seed=1)


@pytest.fixture(scope="module")
def written(trained, tmp_path_factory):
    """A bundle of an untaught network and the head that was taught."""
    torch.manual_seed(3)
    plain = calibrate.Scaling((1.0,) * 6, (0.0,) * 6)
    points = {name: {"thresholds": dict.fromkeys(LABELS, 0.5)} for name in calibrate.POINTS}
    facts = {"data": [], "training": {}, "metrics": {}}
    folder = tmp_path_factory.mktemp("bundle")
    export.write_bundle(
        Network(64, pretrained=False),
        folder,
        version="0",
        slice_scaling=plain,
        study_scaling=plain,
        points=points,
        cam_threshold=0.5,
        facts=facts,
        head=trained,
    )
    return folder


def engine_of(model):
    return OrtEngine(model.graph, model.manifest.self_test, "cpu", 1, model.sequence)


def test_it_learns_what_only_the_neighbours_tell(trained):
    others = runs_and_single_slices(40, 2)
    truth = np.array([one.labels[:, 0].max() for one in others])
    peak = [one.logits[:, 0].max() for one in others]
    corrected = [sequence.apply(trained, one)[:, 0].max() for one in others]
    assert metrics.auc(truth, corrected) > 0.95 > metrics.auc(truth, peak)


def test_the_node_runs_the_head_of_a_bundle_as_training_does(written, trained):
    model = bundle.load(written)
    engine = engine_of(model)
    assert engine.self_test() < 1e-3
    hu = np.random.default_rng(0).integers(-100, 200, (5, 90, 80)).astype(np.int16)
    answer = engine.run(hu)
    expected = sequence.apply(trained, Series(answer.features, answer.logits, answer.logits))
    assert np.abs(answer.sequence - expected).max() < 1e-4
    assert np.abs(answer.sequence - answer.logits).max() > 1e-2


def test_the_study_speaks_with_the_head_the_map_without_and_the_page_says_so(written, tmp_path):
    model = bundle.load(written)
    paths = series.write_series(tmp_path, heads.phantom(None, rows=256, columns=256, seed=1), seed=1)
    found = pipeline.analyse(paths, model, engine_of(model), Config())
    without = model.manifest.model_copy(update={"sequence": None})
    alone = bundle.Model(without, model.graph)
    plain = pipeline.analyse(paths, alone, OrtEngine(model.graph, provider="cpu", threads=1), Config())
    assert np.abs(found.prediction.study_probability - plain.prediction.study_probability).max() > 1e-3
    assert np.array_equal(found.prediction.cam, plain.prediction.cam)
    assert np.array_equal(found.prediction.slice_probability, plain.prediction.slice_probability)
    assert [reason.code for reason in found.warnings if reason not in plain.warnings] == [Why.SEQUENCE_HEAD]
    assert "no map shows" in said(found.warnings[0], "en")


@pytest.fixture(scope="module")
def shipped():
    return bundle.load(SHIPPED)


@pytest.fixture(scope="module")
def bleeding(tmp_path_factory):
    made = heads.phantom("intraparenchymal", rows=256, columns=256, seed=3)
    return series.write_series(tmp_path_factory.mktemp("bleeding"), made, seed=3)


@pytest.fixture(scope="module")
def without_head(shipped, bleeding):
    return result_of(shipped, bleeding)


def with_head(model, head, folder):
    """The shipped bundle with a head beside it."""
    sequence.export(head, folder / bundle.SEQUENCE)
    content = (folder / bundle.SEQUENCE).read_bytes()
    said_of_it = bundle.SequenceHead(sha256=hashlib.sha256(content).hexdigest())
    return bundle.Model(model.manifest.model_copy(update={"sequence": said_of_it}), model.graph, content)


def result_of(model, paths):
    """result.json of a series, without its times, and its warnings."""
    found = result_json.as_dict(pipeline.analyse(paths, model, engine_of(model), Config()))
    del found["timings_s"]
    warnings = found.pop("warning_codes"), found.pop("warnings")
    return found, warnings[0]


def test_a_head_that_corrects_nothing_says_what_the_bundle_without_a_head_says(
    shipped, bleeding, without_head, tmp_path
):
    plain, warned = without_head
    assert shipped.sequence is None
    assert [finding["present"] for finding in plain["findings"]].count(True) >= 2
    torch.manual_seed(4)
    beside, warned_beside = result_of(with_head(shipped, sequence.SequenceHead(), tmp_path), bleeding)
    assert beside.pop("model")["sha256"] != plain["model"]["sha256"]
    same = {key: value for key, value in plain.items() if key != "model"}
    assert result_json.encode(beside) == result_json.encode(same)
    assert warned_beside == [Why.SEQUENCE_HEAD, *warned]


def test_a_head_that_sees_no_blood_takes_the_findings_and_leaves_the_slices(shipped, bleeding, without_head, tmp_path):
    plain, _ = without_head
    head = sequence.SequenceHead()
    torch.nn.init.constant_(head.out.bias, -20)
    denied, _ = result_of(with_head(shipped, head, tmp_path), bleeding)
    assert plain["priority"] in ("HIGH", "STAT")
    assert denied["priority"] == "ROUTINE"
    assert not any(finding["present"] for finding in denied["findings"])
    assert denied["slices"] == plain["slices"]


def test_a_head_of_another_network_fails_the_self_test(written):
    model = bundle.load(written)
    torch.manual_seed(9)
    other = sequence.SequenceHead()
    torch.nn.init.normal_(other.out.weight)
    path = written.parent / "other.onnx"
    sequence.export(other, path)
    swapped = bundle.Model(model.manifest, model.graph, path.read_bytes())
    with pytest.raises(ModelError, match="off by"):
        engine_of(swapped).self_test()
    with pytest.raises(ModelError, match="does not fit"):
        OrtEngine(model.graph, model.manifest.self_test, "cpu", 1, model.graph).self_test()


def test_an_engine_that_does_not_run_the_head_fails_the_self_test(written):
    model = bundle.load(written)

    def without(hu):
        return Output(*engine_of(model).run(hu)[:4])

    with pytest.raises(ModelError, match="did not run"):
        self_test.difference(without, model.manifest.self_test, 1e-3)


def test_triton_refuses_a_bundle_with_a_head(written, tmp_path):
    triton = pytest.importorskip(
        "ich_node.infer.engine.triton", reason="needs the extra [triton]", exc_type=ImportError
    )
    with pytest.raises(ModelError, match="sequence head"):
        triton.write_repository(bundle.load(written), tmp_path)
    assert not list(tmp_path.iterdir())
