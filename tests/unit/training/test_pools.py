"""Where training slices come from: windows back to HU, paintings, pools, folds, batches."""

import numpy as np
import pytest

from ich_node.infer.see.crop import crop_stack
from ich_node.training.data import ct_ich
from ich_node.training.data.pool import MARGIN, PIXELS, Pool, enlarged, joined, load, pool_of, save
from ich_node.training.synthesis import painting


def slice_with_skull(seed=0):
    """A pool image: brain with noise in a ring of bone."""
    r, c = np.mgrid[:PIXELS, :PIXELS] - PIXELS / 2
    radius = np.hypot(r / 100, c / 82)
    hu = np.full((PIXELS, PIXELS), -1000.0)
    hu[radius < 1] = 900
    hu[radius < 0.93] = 33
    hu[np.hypot((r + 5) / 28, (np.abs(c) - 12) / 6) < 1] = 6
    return np.round(hu + np.random.default_rng(seed).normal(0, 3, hu.shape)).astype(np.int16)


def pool(count=4):
    hu = np.stack([slice_with_skull(i) for i in range(count)])
    labels = np.zeros((count, 6), np.float32)
    bits = np.zeros((count, PIXELS // 2, PIXELS // 2), np.uint8)
    return Pool(
        hu, labels, bits, np.ones((count, 6), np.float32), np.arange(count, dtype=np.int32), np.zeros(count, bool)
    )


def test_hu_come_back_from_the_two_windows():
    hu = np.array([[-900, -100, 0, 35, 80, 400, 1500]], np.float32)
    brain = np.clip(np.round((hu + 20) * 255 / 120), 0, 255).astype(np.uint8)
    bone = np.clip(np.round(hu * 0.077 + 72), 0, 255).astype(np.uint8)
    found = ct_ich.hounsfield(brain, bone)[0]
    assert np.abs(found[2:5] - hu[0, 2:5]).max() <= 1
    assert np.abs(found - hu[0]).max() <= 8


def test_without_a_bone_picture_there_is_only_air_and_bone_outside_the_brain_window():
    found = ct_ich.hounsfield(np.array([[0, 128, 255]], np.uint8), None)[0]
    assert found[0] == -900
    assert found[1] == pytest.approx(40, abs=1)
    assert found[2] == 900


def test_no_patient_is_in_two_folds_and_rare_types_are_spread():
    patient = np.repeat(np.arange(20, dtype=np.int32), 5)
    labels = np.zeros((100, 6), np.float32)
    labels[:25, [0, 3]] = 1  # five patients with a rare type
    fold = ct_ich.folds(patient, labels, 5, seed=1)
    assert all(len(set(fold[patient == name])) == 1 for name in range(20))
    assert sorted(np.unique(fold[:25])) == [0, 1, 2, 3, 4]
    assert np.bincount(fold).min() >= 10


def test_paintings_are_brighter_than_brain_where_the_mask_is_and_only_inside_the_skull():
    made = painting.painted(pool(), 12, np.random.default_rng(3))
    assert len(made) == 12
    assert np.array_equal(made.labels[:, 1:] > 0, [[bool((b >> j & 1).any()) for j in range(5)] for b in made.bits])
    assert np.array_equal(made.labels[:, 0], made.labels[:, 1:].max(axis=1))
    for hu, bits, ill in zip(made.hu, made.bits, made.labels[:, 0] > 0, strict=True):
        assert not ill or np.median(hu[::2, ::2][bits > 0]) > 34  # brain has 33


def test_a_harmless_painting_changes_the_slice_and_is_not_called_blood():
    made = painting.painted(pool(), 40, np.random.default_rng(4))
    changed = [hu[np.abs(hu - pool().hu[i].astype(int)) > 12] for hu, i in zip(made.hu, made.patient, strict=True)]
    as_dense_as_blood = np.array([np.mean((hu > 45) & (hu < 80)) if len(hu) else 0 for hu in changed])
    harmless = made.labels[:, 0] == 0
    assert 4 < harmless.sum() < 24
    assert np.mean([len(hu) > 20 for hu, one in zip(changed, harmless, strict=True) if one]) > 0.8
    assert as_dense_as_blood[harmless].mean() < 0.25
    assert as_dense_as_blood[~harmless].mean() > 0.7


def test_a_slice_without_enough_brain_is_not_painted_on():
    assert painting.paint(np.full((PIXELS, PIXELS), -1000, np.int16), np.random.default_rng(0)) is None


def test_a_pool_survives_the_disk(tmp_path):
    save(pool(), tmp_path / "pool.npz")
    again = load(tmp_path / "pool.npz")
    assert np.array_equal(again.hu, pool().hu)
    assert len(joined([again, again])) == 8


def test_lesions_too_small_to_call_are_doubtful_not_positive():
    hu = np.full((2, 200, 200), -1000, np.int16)
    hu[:, 20:180, 20:180] = 40
    box = crop_stack(hu, (5.0, 1.0, 1.0))
    masks = np.zeros((2, 5, *box.hu.shape[1:]), bool)
    masks[0, 1, 60:63, 60:65] = True
    masks[1, 1, 60:70, 60:70] = True
    made = pool_of(box, masks)
    assert made.doubtful.tolist() == [True, False]
    assert made.labels[:, [0, 2]].tolist() == [[0, 0], [1, 1]]


def test_an_enlarged_box_has_the_margin_around_it():
    box = np.full((100, 120), 40, np.int16)
    image = enlarged(box, PIXELS)
    edge = (PIXELS - PIXELS / MARGIN) / 2
    assert image[PIXELS // 2, int(edge) - 3] == -1024
    assert image[PIXELS // 2, int(edge) + 3] == 40


@pytest.mark.train
def test_a_batch_is_half_positive_and_its_cells_follow_its_turns():
    batches = pytest.importorskip("ich_node.training.learn.batches", exc_type=ImportError)
    real, drawn = pool(), painting.painted(pool(), 8, np.random.default_rng(3))
    assert batches.Draw(joined([real, drawn]), share=0.75).indices(8, np.random.default_rng(0)).shape == (8,)
    both = batches.Draw(joined([real, drawn]))
    made = batches.batch({"all": both}, {"all": 8}, 64, np.random.default_rng(0))
    assert made.hu.shape == (8, 1, 64, 64)
    assert made.cells.shape == (8, 6, 8, 8)
    assert made.labels[:, 0].sum() == 4
    assert ((made.cells[:, 0].amax(dim=(1, 2)) > 0) == (made.labels[:, 0] > 0)).all()


@pytest.mark.train
def test_training_goes_on_from_its_checkpoint_as_if_it_had_not_stopped(tmp_path):
    train = pytest.importorskip("ich_node.training.learn.train", exc_type=ImportError)
    import torch

    from ich_node.training.learn.batches import Draw
    from ich_node.training.learn.network import Network

    drawn = {"all": Draw(joined([pool(), painting.painted(pool(), 8, np.random.default_rng(3))]))}

    def run(folder, *stops):
        for steps in stops:
            torch.manual_seed(0)
            phase = train.Phase("p", {"all": 4}, steps=steps, size=64, checkpoint_every=2)
            network = train.Trainer(Network(64, pretrained=False), phase, folder, torch.device("cpu")).run(drawn)
        return torch.load(folder / "p.pt", weights_only=False), network

    whole, _ = run(tmp_path / "a", 4)
    parts, _ = run(tmp_path / "b", 2, 4)
    assert whole["step"] == parts["step"] == 4
    assert len(parts["losses"]) == 4
    assert whole["rng"] == parts["rng"]


@pytest.mark.train
def test_the_graphs_resize_is_torchs_antialiased_one():
    network = pytest.importorskip("ich_node.training.learn.network", exc_type=ImportError)
    import torch

    hu = torch.randint(-1000, 1000, (2, 150, 131)).float()
    expected = torch.nn.functional.interpolate(hu[:, None], size=(64, 64), mode="bilinear", antialias=True)
    assert torch.allclose(network.resized(hu, 64), expected, atol=1e-2)


@pytest.mark.train
def test_the_graph_says_the_same_of_a_slice_and_of_its_mirror_image():
    network = pytest.importorskip("ich_node.training.learn.network", exc_type=ImportError)
    import torch

    net = network.Network(64, pretrained=False).eval()
    hu = torch.randint(-100, 200, (2, 96, 96)).to(torch.int16)
    with torch.no_grad():
        one, other = net(hu), net(hu.flip(2))
    assert torch.allclose(one[0], other[0], atol=1e-4)
    assert torch.allclose(one[1], other[1].flip(3), atol=1e-4)
    assert torch.allclose(one[0], network.log_mean_exp(one[1]), atol=1e-6)
