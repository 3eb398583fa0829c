"""Where training slices come from: windows back to HU, paintings, pools, folds, batches."""

import numpy as np
import pytest

from ich_node.infer.see.crop import crop_stack
from ich_node.training.data import ct_ich
from ich_node.training.data.pool import MARGIN, PIXELS, Pool, enlarged, joined, load, pool_of, save
from ich_node.training.synthesis import canvas


def slice_with_skull(seed=0):
    """A pool image: brain with noise in a ring of bone."""
    r, c = np.mgrid[:PIXELS, :PIXELS] - PIXELS / 2
    radius = np.hypot(r / 125, c / 103)
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


@pytest.fixture(scope="module")
def painter():
    painting = pytest.importorskip("ich_node.training.synthesis.painting", exc_type=ImportError)
    import torch

    return painting.Painter(pool(), canvas.canvases(pool()), torch.device("cpu"))


def dice(seed):
    import torch

    from ich_node.training.synthesis.dice import Dice

    return Dice(seed, torch.device("cpu"))


@pytest.mark.train
def test_paintings_are_brighter_than_brain_where_the_mask_is_and_only_inside_the_skull(painter):
    made = painter.paint(24, dice(3))
    assert made.hu.shape == (24, PIXELS, PIXELS)
    assert np.array_equal(made.labels[:, 0], made.labels[:, 1:].amax(dim=1))
    for hu, masks, ill in zip(made.hu[:, ::2, ::2], made.masks, made.labels[:, 0] > 0, strict=True):
        assert not ill or hu[masks.any(0)].median() > 34  # brain has 33
        assert not ill or hu[masks.any(0)].median() < 130


@pytest.mark.train
def test_a_third_of_the_paintings_or_less_is_harmless_and_has_no_mask(painter):
    made = painter.paint(60, dice(4))
    unmarked = ~made.masks.flatten(1).any(1)
    assert 10 < unmarked.sum() < 35
    assert (made.labels[unmarked] == 0).all()


@pytest.mark.train
def test_what_is_too_small_to_call_is_in_doubt_and_not_a_negative(painter):
    made = painter.paint(200, dice(5))
    small = made.masks.flatten(2).any(2) & (made.labels[:, 1:] == 0)
    assert (made.trust[:, 1:][small] == 0).all()
    assert (made.trust[:, 1:][~small] == 1).all()


def test_a_slice_without_enough_brain_is_not_painted_on():
    air = pool()
    air.hu[1:] = -1000
    assert canvas.canvases(air).index.tolist() == [0]


def test_the_depth_of_a_canvas_grows_from_the_inner_table():
    found = canvas.canvases(pool(1))
    across = found.depth[0, PIXELS // 2]
    assert across[0] == 0
    assert across.max() * canvas.PIXEL_MM / 2 == pytest.approx(0.93 * 103 * canvas.PIXEL_MM, abs=6)
    assert across.argmax() == pytest.approx(PIXELS / 2, abs=6)


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


def made_of(*pools):
    import torch

    from ich_node.training.learn.batches import Shelf

    return Shelf(joined(pools), torch.device("cpu"))


def bleeding_pool():
    """Every slice with a clot of 20 pixels."""
    made = pool()
    made.hu[:, 150:170, 100:120] = 65
    made.bits[:, 75:85, 50:60] = 0b00010
    made.labels[:, [0, 2]] = 1
    return made


@pytest.mark.train
def test_a_batch_is_half_positive_and_its_cells_follow_its_turns():
    batches = pytest.importorskip("ich_node.training.learn.batches", exc_type=ImportError)
    import torch

    draw = batches.Draw(made_of(pool(), bleeding_pool()), torch.device("cpu"))
    made = batches.batch({"all": draw}, {"all": 8}, 64, dice(0))
    assert made.hu.shape == (8, 1, 64, 64)
    assert made.cells.shape == (8, 6, 8, 8)
    assert made.labels[:, 0].sum() == 4
    assert ((made.cells[:, 0].amax(dim=(1, 2)) > 0) == (made.labels[:, 0] > 0)).all()


@pytest.mark.train
def test_every_painting_is_used_once_and_a_fold_paints_on_its_own_slices_only(painter):
    batches = pytest.importorskip("ich_node.training.learn.batches", exc_type=ImportError)
    source, rolls = batches.Paintings(painter, 12), dice(1)
    first, second, third = (source.take(6, rolls).hu for _ in range(3))
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, third)


@pytest.mark.train
def test_a_shelf_takes_in_what_fits():
    batches = pytest.importorskip("ich_node.training.learn.batches", exc_type=ImportError)
    import torch

    shelf = batches.Shelf(pool(), torch.device("cpu"), capacity=10)
    assert shelf.append(bleeding_pool())
    assert not shelf.append(bleeding_pool())
    assert shelf.labels()[:, 0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


@pytest.mark.train
def test_training_goes_on_from_its_checkpoint_as_if_it_had_not_stopped(tmp_path):
    train = pytest.importorskip("ich_node.training.learn.train", exc_type=ImportError)
    import torch

    from ich_node.training.learn.batches import Draw
    from ich_node.training.learn.network import Network

    drawn = {"all": Draw(made_of(pool(), bleeding_pool()), torch.device("cpu"))}

    def run(folder, *stops):
        for steps in stops:
            torch.manual_seed(0)
            phase = train.Phase("p", {"all": 4}, steps=steps, size=64)
            train.Trainer(Network(64, pretrained=False), phase, folder, torch.device("cpu")).run(drawn)
        return torch.load(folder / "p.pt", weights_only=True)

    whole = run(tmp_path / "a", 4)
    parts = run(tmp_path / "b", 2, 4)
    assert whole["step"] == parts["step"] == 4
    assert whole["done"] and parts["done"]
    assert torch.equal(whole["dice"], parts["dice"])


@pytest.mark.train
def test_a_phase_ends_with_its_time(tmp_path):
    train = pytest.importorskip("ich_node.training.learn.train", exc_type=ImportError)
    import torch

    from ich_node.training.learn.batches import Draw
    from ich_node.training.learn.network import Network

    drawn = {"all": Draw(made_of(pool(), bleeding_pool()), torch.device("cpu"))}
    phase = train.Phase("p", {"all": 2}, steps=1000, seconds=1e-6, size=64)
    trainer = train.Trainer(Network(64, pretrained=False), phase, tmp_path, torch.device("cpu"))
    trainer.run(drawn)
    assert trainer.step == 1
    assert (tmp_path / "p.pt").exists()


@pytest.mark.train
def test_weights_are_averaged_and_their_statistics_measured_anew():
    train = pytest.importorskip("ich_node.training.learn.train", exc_type=ImportError)
    import torch

    mean = train.soup([{"a": torch.zeros(3), "n": torch.tensor(5)}, {"a": torch.full((3,), 4.0), "n": torch.tensor(5)}])
    assert mean["a"].tolist() == [2, 2, 2]
    assert mean["n"] == 5


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
