"""What the pixels give away: no HU, no head, contrast, a sharp kernel, metal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ct_ich_series import CtIchHead
from head_shapes import shape_head
from scipy import ndimage

from ich_node.domain.errors import UnusableSeries
from ich_node.domain.reasons import Reason, Why
from ich_node.infer.see import gates
from ich_node.phantom.head import phantom

HEAD = shape_head(30, 256)


def volume(hu, spacing_mm=HEAD.spacing_mm):
    return CtIchHead("", np.asarray(hu).astype(np.int16), np.zeros(len(hu), bool), spacing_mm).volume()


def inside():
    """bool: the brain of the shape head, 4 mm and more from the bone."""
    brain = (HEAD.hu > -100) & (HEAD.hu < 150)
    ring = np.stack([ndimage.binary_fill_holes(image > 500) for image in HEAD.hu])
    return np.stack([ndimage.binary_erosion(image, iterations=5) for image in brain & ring])


@pytest.fixture(scope="module")
def plain() -> gates.Measured:
    return gates.measure(volume(HEAD.hu))


def test_a_plain_head_passes_without_a_word():
    assert gates.check(volume(HEAD.hu)) == ()


def test_the_figures_of_a_plain_head_are_what_was_drawn(plain):
    assert plain.brain_hu == pytest.approx(34, abs=1)
    assert plain.noise_hu == pytest.approx(3, rel=0.15)
    assert plain.ring_fraction == 1 and plain.metal_ml == 0 and plain.spots == 0
    assert plain.sinus_hu[1] == pytest.approx(34, abs=4)


@pytest.mark.parametrize("turn", [(1, 2), (2, 1)])
def test_the_figures_do_not_depend_on_the_thickness_of_slices(turn):
    thin = shape_head(150, 128, slice_mm=1.0, noise_hu=12)
    assert gates.check(volume(thin.hu, thin.spacing_mm)) == ()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda hu: hu + 1024, Why.NO_AIR),
        (lambda hu: np.clip((hu + 20) * 255 // 120, 0, 255), Why.NO_AIR),
        (lambda hu: np.maximum(hu - 1024, -1024), "brain_hu|no_air|no_skull"),
        (lambda hu: hu * 1.9, Why.BRAIN_HU),
        (lambda hu: hu // 8 * 8, Why.COARSE_VALUES),
        (lambda hu: np.minimum(hu, 120), Why.NO_SKULL),
        (lambda hu: np.where(hu > -100, 40, hu), "coarse_values|no_skull"),
    ],
    ids=["shifted up", "8-bit greys", "shifted down", "doubled", "steps of 8", "windowed", "no bone"],
)
def test_values_that_are_not_hu_of_a_head_are_refused(spoil, reason):
    with pytest.raises(UnusableSeries, match=reason):
        gates.check(volume(spoil(HEAD.hu.astype(np.int32))))


def test_bright_vessels_are_taken_for_contrast():
    hu, rng = HEAD.hu.copy(), np.random.default_rng(0)
    brain = inside()
    for index in range(6, 26):
        for row, column in rng.permutation(np.argwhere(brain[index]))[:8]:
            hu[index, row - 1 : row + 3, column - 1 : column + 3] = 250
    with pytest.raises(UnusableSeries, match=Why.BRIGHT_VESSELS):
        gates.check(volume(hu))


@pytest.mark.parametrize("sinus_hu", [130, 92])
def test_a_bright_sagittal_sinus_is_taken_for_contrast(sinus_hu):
    """As in a venous phase, and in a delayed one."""
    hu = HEAD.hu.copy()
    for index, brain in enumerate(inside()):
        rows = np.flatnonzero(brain[:, 128])
        if len(rows):
            hu[index, rows[-1] - 5 : rows[-1] + 5, 123:134] = sinus_hu
    with pytest.raises(UnusableSeries, match=Why.BRIGHT_VESSELS):
        gates.check(volume(hu))


def test_blood_along_the_falx_is_not_taken_for_a_bright_sinus():
    hu = HEAD.hu.copy()
    for index, brain in enumerate(inside()):
        rows = np.flatnonzero(brain[:, 128])
        if len(rows):
            hu[index, rows[-1] - 40 : rows[-1] + 4, 124:133] = 88
    assert gates.check(volume(hu)) == ()


def test_a_sinus_that_is_as_dense_as_a_high_haematocrit_makes_it_is_not_taken_for_contrast():
    hu = HEAD.hu.copy()
    for index, brain in enumerate(inside()):
        rows = np.flatnonzero(brain[:, 128])
        if len(rows):
            hu[index, rows[-1] - 5 : rows[-1] + 5, 123:134] = 70
    assert gates.check(volume(hu)) == ()


@pytest.mark.parametrize("slices", [slice(0, 30), slice(4, 16)], ids=["whole", "half"])
def test_arteries_alone_as_early_after_an_injection_are_taken_for_contrast(slices):
    hu, rng = HEAD.hu.copy(), np.random.default_rng(0)
    for index, brain in enumerate(inside()):
        for row, column in rng.permutation(np.argwhere(ndimage.binary_erosion(brain, iterations=8)))[:3]:
            hu[index, row : row + 3, column : column + 3] = 350
    with pytest.raises(UnusableSeries, match="bright_vessels"):
        gates.check(volume(hu[slices]))


@pytest.mark.parametrize("slices", [slice(0, 30), slice(6, 20)], ids=["whole", "part"])
@pytest.mark.parametrize("hu_there", [130, 250])
def test_the_great_arteries_of_the_base_alone_are_taken_for_contrast(slices, hu_there):
    """Both middle cerebral arteries run within two slices of 5 mm; on such slices a thin one has a third of its HU."""
    hu = HEAD.hu.copy()
    for index in (12, 13):
        hu[index, 100:103, 80:112] = hu[index, 101:104, 144:176] = hu_there
    with pytest.raises(UnusableSeries, match=Why.BRIGHT_VESSELS):
        gates.check(volume(hu[slices]))


def with_confluence(hu_there, index=6):
    """The head with a disc of 8 mm where the sinuses join."""
    hu = HEAD.hu.copy()
    back = np.flatnonzero(inside()[index][:, 128])[-1]
    hu[index, back - 5 : back + 4, 123:134] = hu_there
    return hu


@pytest.mark.parametrize("hu_there", [112, 140])
def test_sinuses_that_join_are_enough_in_the_lower_part_of_a_head(hu_there):
    with pytest.raises(UnusableSeries, match=Why.BRIGHT_VESSELS):
        gates.check(volume(with_confluence(hu_there)[:10]))


def test_what_looks_like_the_confluence_is_not_taken_for_contrast():
    assert gates.check(volume(with_confluence(90)[:10])) == ()  # as dense as a clot, or a high haematocrit
    assert gates.check(volume(with_confluence(112))) == ()  # in a whole head the sinuses above it have a say
    bone = with_confluence(112)
    bone[5][with_confluence(900, 5)[5] == 900] = 300  # the occiput, which goes on below
    assert gates.check(volume(bone[:10])) == ()


def test_a_slab_with_arteries_is_believed_when_there_are_bright_spots_elsewhere():
    hu, rng = HEAD.hu.copy(), np.random.default_rng(0)
    hu[12, 100:103, 80:112] = hu[12, 101:104, 144:176] = 250
    assert gates.check(volume(hu)) == ()
    for index in (14, 16):
        for row, column in rng.permutation(np.argwhere(ndimage.binary_erosion(inside()[index], iterations=8)))[:5]:
            hu[index, row : row + 3, column : column + 3] = 300
    with pytest.raises(UnusableSeries, match=Why.BRIGHT_VESSELS):
        gates.check(volume(hu))


def test_bone_of_the_base_on_one_slab_is_not_taken_for_arteries():
    head = phantom("subdural", slices=32, seed=1)
    assert not gates.has_contrast(gates.measure(volume(head.hu, head.spacing_mm)))


def test_the_lower_part_of_a_head_has_its_skull_in_the_upper_slices_only():
    face = np.random.default_rng(0).normal(40, 8, (9, *HEAD.hu.shape[1:]))
    face[:, :40] = -1000
    lower = volume(np.concatenate([face, HEAD.hu[12:15]]))
    assert gates.measure(lower).ring_fraction == 0
    assert gates.check(lower) == (Reason(Why.OPEN_SKULL),)


def test_calcified_basal_ganglia_are_not_taken_for_contrast():
    hu = HEAD.hu.copy()
    for index in range(12, 16):
        hu[index, 104:118, 100:112] = hu[index, 104:118, 144:156] = 110
    assert gates.check(volume(hu)) == ()


@pytest.mark.parametrize("shift", [17, -17])
def test_grey_and_white_matter_that_cannot_be_are_refused(shift):
    brain = ndimage.binary_dilation(inside(), iterations=3) & (HEAD.hu > -100) & (HEAD.hu < 150)
    with pytest.raises(UnusableSeries, match="brain_hu"):
        gates.check(volume(np.where(brain, HEAD.hu + shift, HEAD.hu)))


def test_a_large_clot_is_not_taken_for_contrast():
    hu = HEAD.hu.copy()
    hu[8:20, 110:150, 60:100] = 85
    assert gates.check(volume(hu)) == ()


def test_calcified_plexus_and_pineal_gland_are_not_taken_for_contrast():
    hu = HEAD.hu.copy()
    for row, column in ((140, 100), (140, 156), (130, 128)):
        hu[14:17, row : row + 6, column : column + 6] = 300
    assert gates.check(volume(hu)) == ()


def test_the_noise_of_a_sharp_kernel_is_refused_and_that_of_a_soft_one_is_not():
    rng = np.random.default_rng(1)
    white = rng.normal(0, 1, HEAD.hu.shape)
    grain = ndimage.gaussian_filter(white, (0, 1.2, 1.2))
    for noise, sharp in ((white, True), (grain, False)):
        figures = gates.measure(volume(HEAD.hu + noise / noise.std() * 30))
        assert gates.is_sharp(figures) is sharp


def test_metal_in_the_skull_is_a_warning():
    hu = HEAD.hu.copy()
    hu[14:16, 120:132, 120:132] = 3000
    assert gates.check(volume(hu)) == (Reason(Why.METAL),)


def test_an_open_skull_is_a_warning_only(plain):
    assert gates.judge(replace(plain, ring_fraction=0.2)) == (Reason(Why.OPEN_SKULL),)


@pytest.mark.parametrize("keep", [range(5), [*range(8), *range(16, 30)]], ids=["few slices", "gap"])
def test_slices_that_got_lost_while_reading_count(keep):
    whole = volume(HEAD.hu)
    index = list(keep)
    part = replace(
        whole,
        hu=whole.hu[index],
        positions_mm=whole.positions_mm[index],
        sop_instance_uids=tuple(whole.sop_instance_uids[i] for i in index),
    )
    with pytest.raises(UnusableSeries, match="slices"):
        gates.check(part)


def test_an_empty_volume_is_no_head():
    with pytest.raises(UnusableSeries, match=r"coarse_values|no_skull"):
        gates.check(volume(np.full((30, 128, 128), -1000), (5.0, 1.8, 1.8)))
