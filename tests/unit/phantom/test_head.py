"""The head from formulas: it looks like a head to the code, bleeds in five ways, and is the same every time."""

import subprocess
import sys

import numpy as np
import pytest

from ich_node.domain.findings import SITES, Laterality
from ich_node.infer.see.crop import crop_stack
from ich_node.phantom import lookalikes
from ich_node.phantom.head import head, phantom
from ich_node.phantom.lesions import TYPES, Scene, add, laterality_of
from ich_node.phantom.scanner import density
from ich_node.phantom.tissue import BRAIN, Tissue, distance_mm, random_field

SMALL = {"slices": 12, "rows": 96, "columns": 96}


@pytest.fixture(scope="module")
def healthy():
    return head(np.random.default_rng(5))


@pytest.fixture(scope="module")
def bleeding():
    return {label: phantom(label, seed=3, **SMALL) for label in TYPES}


def scene_of(anatomy, seed=0):
    rng = np.random.default_rng(seed)
    return Scene(anatomy, density(anatomy, rng)), rng


def test_every_tissue_of_a_head_is_there(healthy):
    assert not {tissue for tissue in Tissue if not (healthy.tissue == tissue).any()}


def test_the_brain_is_inside_a_closed_skull_at_the_level_of_the_ventricles(healthy):
    plane = np.argmax((healthy.tissue == Tissue.LATERAL_VENTRICLE).sum(axis=(1, 2)))
    away = distance_mm(healthy.intracranial, healthy.spacing_mm)[plane]
    ring = (away > 0) & (away < 1.5)
    assert np.isin(healthy.tissue[plane][ring], (Tissue.BONE, Tissue.DIPLOE)).mean() > 0.95


def test_the_brain_has_the_size_of_a_brain(healthy):
    litres = healthy.any_of(*BRAIN).sum() * np.prod(healthy.spacing_mm) / 1e6
    assert 0.9 < litres < 1.8


def test_the_patients_left_is_on_the_side_of_the_last_column(healthy):
    assert healthy.left[..., -20:].all()
    assert not healthy.left[..., :20].any()


def test_the_eyes_are_in_front_and_the_cerebellum_is_behind_and_below(healthy):
    def middle(*tissues):
        return np.argwhere(healthy.any_of(*tissues)).mean(axis=0)

    brain, eyes = middle(Tissue.WHITE), middle(Tissue.EYE)
    cerebellum = middle(Tissue.CEREBELLAR_GREY)
    assert eyes[1] < brain[1] < cerebellum[1]
    assert cerebellum[0] < brain[0]


@pytest.mark.parametrize("label", TYPES)
def test_a_phantom_bleeds_where_its_mask_says(bleeding, label):
    made = bleeding[label]
    index = TYPES.index(label)
    assert made.hu.dtype == np.int16
    assert made.mask.any(axis=(0, 2, 3)).tolist() == [j == index for j in range(len(TYPES))]
    values = made.hu[made.mask[:, index]]
    soft = values[values < 110]  # a thin layer on bone shares most of its pixels, 2.4 mm wide, with the bone
    assert len(soft) > 0.1 * len(values)
    assert 45 < np.median(soft) < 100  # brain has 25 to 40
    assert [truth.label for truth in made.truth] == [label]
    assert made.truth[0].site in SITES


def test_a_phantom_without_hemorrhage_has_no_mask_and_no_truth():
    made = phantom(None, seed=1, **SMALL)
    assert not made.mask.any()
    assert made.truth == ()


def test_the_same_seed_gives_the_same_phantom_and_another_seed_another(bleeding):
    again = phantom("epidural", seed=3, **SMALL)
    assert np.array_equal(again.hu, bleeding["epidural"].hu)
    assert not np.array_equal(phantom("epidural", seed=4, **SMALL).hu, again.hu)


def test_the_head_box_finds_the_phantom(bleeding):
    made = bleeding["subdural"]
    box = crop_stack(made.hu, made.spacing_mm)
    assert 150 <= box.side_mm <= 230
    inside = sum(int(box.to_box(made.mask[i, 4], i).sum()) for i in range(len(made.hu)))
    assert inside == made.mask[:, 4].sum()


def test_an_epidural_lies_against_the_inner_table(healthy):
    scene, rng = scene_of(healthy)
    lesion = add(scene, "epidural", rng)
    assert lesion is not None
    near = healthy.depth_mm[lesion.mask]
    assert near.min() < 2.5
    assert healthy.intracranial[lesion.mask].all()


def test_intraventricular_blood_stays_in_the_ventricles(healthy):
    scene, rng = scene_of(healthy)
    lesion = add(scene, "intraventricular", rng)
    assert lesion is not None
    assert healthy.any_of(Tissue.LATERAL_VENTRICLE, Tissue.MIDLINE_VENTRICLE)[lesion.mask].all()


def test_side_is_read_off_the_mask(healthy):
    mask = np.zeros(healthy.tissue.shape, bool)
    brain = healthy.any_of(*BRAIN)
    mask[40:50] = (brain & healthy.left)[40:50]
    assert laterality_of(healthy, mask) is Laterality.LEFT
    mask[40:50] = brain[40:50]
    assert laterality_of(healthy, mask) is Laterality.BILATERAL
    mask[:] = False
    mask[45, 120:125, 92:98] = True
    assert laterality_of(healthy, mask) is Laterality.MIDLINE


@pytest.mark.parametrize("kind", lookalikes.KINDS)
def test_a_look_alike_changes_the_head_and_leaves_valid_hu(healthy, kind):
    scene, rng = scene_of(healthy)
    before = scene.hu.copy()
    for _ in range(3):
        lookalikes.add(scene, kind, rng)
    assert not np.array_equal(before, scene.hu)
    assert np.isfinite(scene.hu).all()
    assert not scene.lesions


def test_a_random_field_is_smooth_and_of_about_unit_variance():
    values = random_field(np.random.default_rng(0), (40, 80, 80), 8)
    assert 0.6 < values.std() < 1.5
    assert np.abs(np.diff(values, axis=2)).mean() < 0.3


def test_phantoms_need_no_torch():
    code = "import sys, ich_node.phantom.head; print('torch' in sys.modules or 'onnxruntime' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
