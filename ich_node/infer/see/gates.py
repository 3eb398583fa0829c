"""What the pixels say about an input that the model was not made for, whatever the header claims.

In: a `Volume`. Out: warnings, or UnusableSeries with the reason. `measure` takes the figures and `judge`
holds them against the limits, so that the limits can be tested and their rates measured (docs/gates.md) apart from each
other. Everything is measured on means over blocks of 2 mm, as large on every image, and slabs of about 5 mm, so that
all pixels, thin and noisy slices are held against the same limits, except the noise, which needs single pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ich_node.dicom import eligibility, geometry
from ich_node.domain.errors import UnusableSeries
from ich_node.domain.findings import Volume
from ich_node.domain.reasons import Reason, Why
from ich_node.infer.see import heights
from ich_node.infer.see.blocks import Mask, block_mean, cell_mean, closed, grown, opened, shrunk
from ich_node.infer.see.crop import turn_of
from ich_node.infer.see.slabs import Slabs, slabs_of

Floats = npt.NDArray[np.float32]

FINE_MM = 1.062  # three pixels of 0.354 mm: the noise of single pixels is gone, an artery of 2 mm is not
COARSE_MM = 0.8  # chosen: such pixels are taken as they are, for means over parts of two would smear an artery
BONE_HU = 200  # chosen: thin bone on a block of 2 mm and a slab of 5 mm
SQUARE = np.ones((3, 3), np.bool_)  # eight neighbours: a ring of bone is closed across corners
CROSS = ndimage.generate_binary_structure(2, 1)
"""Four neighbours: what a ring surrounds does not leak through its corners."""
RING_CM2 = (30.0, 420.0)  # chosen: from the vertex of a small child to half as much again as a large adult skull holds

AIR_HU = -800  # chosen: air has −1000; with partial volume and noise it stays below
AIR_FRACTION = 0.02  # chosen: round a head the corners of the narrowest image hold more air
BRAIN_HU = (20.0, 48.0)
"""Grey and white matter have about 35 and 28 HU at 120 kV; 13 heads had a median of 32 to 39, phantoms of 29 to 34."""
LEVELS = 16  # chosen: a fifth of the 81 values from 0 to 80 HU; greys made of them are coarser
RING_FRACTION = 0.25  # chosen: a closed skull has it in nearly all slices of the middle half
RING_MM = 10.0  # chosen: two slabs; the lower part of a head may have no more, and not in its middle half
METAL_HU, METAL_ML = 2500, 0.2  # chosen: denser than any bone; more than a clip or a dental filling at the edge

VESSEL_HU, VESSEL_LIMIT_HU = 105, 230  # chosen: blood has 90 at most; from 230 on it is bone
SPOT_SLICES_MM, SPOTS_PER_CM = 30.0, 2.5
"""Chosen: a hemorrhage or calcifications have few islands, along less of the head."""
SINUS_HU, SINUS_BRAIN_MM = (68.0, 78.0), 45.0
"""Lower quartile and median. Of 55 heads without contrast the highest were 65 and 68, in phantoms with a delayed phase
the lowest 69 and 80 (docs/gates.md). In less brain than this above the skull base there is too much of its bone."""
CONFLUENCE_HU, CONFLUENCE_BRAIN_MM = 105.0, 60.0
"""In the lower part of a head no more than a slab or two show the sinuses, where they join. No clot is so dense over
4 mm (it ends at 100 HU); none of 55 heads without contrast, nor of their lower parts, had it."""
EVEN_HU, EVEN_MM = 25.0, 20.0
"""What differs more within 4 mm is bone in part of the slab; what reaches further to the front is the skull's vault."""

ALONG_FALX_HU = 12.0
"""Where 14 to 26 mm from the inner table it is as bright, but for this, blood lies along the falx; chosen: enhanced,
the falx stays 30 HU and more below the sinus."""
ARTERY_HU, ARTERY_PEAK_HU, ARTERY_MM2, ARTERY_RADIUS_MM = 110, 125, 150.0, 3.5
"""An artery in the first pass of a contrast agent has 250 to 450 HU; of a thin one, a third is left on a slab of 5 mm,
and still more than of any clot. One that runs within the slab is long, but no thicker."""
ARTERIES, ARTERIES_MM, AND_SPOTS = 2, 10.0, 4
"""Of 55 heads without contrast, at pixels of 0.354 to 0.708 mm, one had two such islands along 10 mm, with 2 bright
islands in all; whole heads with arteries painted along their course had them along 30 mm and more, with 26."""
SOME_ARTERIES_MM, WITH_SPOTS = 4.0, 8
"""One slab with arteries is believed where so many bright islands lie elsewhere: the 55 heads had 6 at most."""
FRONT = 0.55
"""Share of the brain, from the front, in which they are counted: behind lie pineal gland and plexus, and calcify."""
SKULL_BASE_HU, SKULL_BASE_BLOCKS = 600, 2
"""A block this bright deep inside is bone of the skull base, a coil or a clip; islands within 4 mm mean nothing."""
DEEP_BLOCKS = 3
"""Blocks of 2 mm from the inner table: beyond the partial volume of bone."""

NOISE_HU = 15.0  # chosen: three times the usual 3 to 5 HU of a brain protocol
GRAIN_MM = 0.9  # chosen: two pixels: neighbours still agree there after a soft kernel, not after a sharp one
GRAIN = 0.0  # no agreement at all, or the ringing of a sharp kernel


@dataclass(frozen=True, slots=True)
class Measured:
    """Figures of one volume.

    air_fraction: share of voxels below −800 HU. brain_hu: median inside the skull, NaN without a skull. levels:
    different values between 0 and 80 HU. ring_fraction: share of the middle half of the slices with a ring of bone.
    arteries_mm: the height of the slabs with two or more thin islands of 125 HU and more in the front of the brain.
    spots, spots_mm: islands of 105 HU and more inside the brain, and the height of the slices that have them.
    sinus_hu: lower quartile and median over the slabs of the brightest 4 mm in the back midline, where the superior
    sagittal sinus runs. confluence_hu: the brightest of them that is evenly so, and no bone. base: whether slabs below
    the brain were scanned. noise_hu, grain: standard deviation of the noise in the brain, its correlation at 0.9 mm.
    metal_ml: volume above 2500 HU inside the skull.
    """

    air_fraction: float
    brain_hu: float
    levels: int
    ring_fraction: float
    spots: int
    spots_mm: float
    arteries_mm: float
    brain_mm: float
    sinus_hu: tuple[float, float]
    confluence_hu: float
    base: bool
    noise_hu: float
    grain: float
    metal_ml: float


def check(volume: Volume, slabs: Slabs | None = None) -> tuple[Reason, ...]:
    """Warnings about a volume that the model may look at; raises UnusableSeries about one that it must not judge.

    slabs: of the volume, where they are made already.
    """
    return judge(figures(volume, slabs))


def figures(volume: Volume, slabs: Slabs | None = None) -> Measured:
    """The figures of a volume; raises UnusableSeries where its slices do not lie as the model needs them."""
    if reason := eligibility.unfit(_stack(volume)):
        raise UnusableSeries(reason)
    return measure(volume, slabs)


def judge(figures: Measured) -> tuple[Reason, ...]:
    """Hold figures against the limits: warnings, or UnusableSeries with the reason."""
    for wrong, reason in (
        (figures.air_fraction < AIR_FRACTION, Reason(Why.NO_AIR)),
        (figures.levels < LEVELS, Reason(Why.COARSE_VALUES)),
        (figures.ring_fraction == 0 and figures.brain_mm < RING_MM, Reason(Why.NO_SKULL)),
        (not BRAIN_HU[0] <= figures.brain_hu <= BRAIN_HU[1], Reason(Why.BRAIN_HU, median_hu=figures.brain_hu)),
        (has_contrast(figures), Reason(Why.BRIGHT_VESSELS)),
        (is_sharp(figures), Reason(Why.SHARP_NOISE, noise_hu=figures.noise_hu)),
    ):
        if wrong:
            raise UnusableSeries(reason)
    warnings = []
    if figures.ring_fraction < RING_FRACTION:
        warnings.append(Reason(Why.OPEN_SKULL))
    if figures.metal_ml >= METAL_ML:
        warnings.append(Reason(Why.METAL))
    return tuple(warnings)


def has_contrast(figures: Measured) -> bool:
    """Bright sinuses all along, bright spots all over the brain, or arteries alone, as early after an injection.

    Clots stay below 105 HU, calcifications are few and do not go on from slab to slab.
    """
    if figures.arteries_mm >= ARTERIES_MM and figures.spots >= AND_SPOTS:
        return True
    if figures.arteries_mm >= SOME_ARTERIES_MM and figures.spots >= WITH_SPOTS:
        return True
    if figures.confluence_hu >= CONFLUENCE_HU and figures.brain_mm < CONFLUENCE_BRAIN_MM:
        return True
    is_part = figures.base and figures.brain_mm < SINUS_BRAIN_MM
    if not is_part and figures.sinus_hu[0] >= SINUS_HU[0] and figures.sinus_hu[1] >= SINUS_HU[1]:
        return True
    return figures.spots_mm >= SPOT_SLICES_MM and figures.spots >= SPOTS_PER_CM * figures.brain_mm / 10


def is_sharp(figures: Measured) -> bool:
    """Strong noise whose neighbours know nothing of each other; that of a soft kernel is grainy, however strong."""
    return figures.noise_hu >= NOISE_HU and figures.grain <= GRAIN


# --- figures -------------------------------------------------------------------------------------------------------


def measure(volume: Volume, slabs: Slabs | None = None) -> Measured:
    """Take the figures of a volume."""
    slabs = slabs or slabs_of(volume)
    turn = turn_of(volume.affine)
    hu = turn.forward(volume.hu)
    pixel_mm = volume.spacing_mm[1:] if not turn.transpose else volume.spacing_mm[:0:-1]
    slab_mm = np.add.reduceat(heights.extents_mm(volume.heights_mm), slabs.starts)
    fine_mm = _cell_mm(pixel_mm[0]), _cell_mm(pixel_mm[1])
    fine = cell_mean(turn.forward(slabs.thick.hu), (fine_mm[0] / pixel_mm[0], fine_mm[1] / pixel_mm[1]))
    blocks = block_mean(fine, (2, 2))
    cell_cm2 = 4 * fine_mm[0] * fine_mm[1] / 100
    inside = np.stack([brain_of(image, cell_cm2) for image in blocks])
    area_cm2 = inside.sum(axis=(1, 2)) * cell_cm2
    upper = np.flatnonzero(area_cm2 > 0.5 * max(area_cm2.max(), RING_CM2[0]))
    spots, spots_mm = _spots(blocks[upper], inside[upper], cell_cm2, slab_mm[upper])
    noise_hu, grain = _noise(hu[slabs.starts], pixel_mm, inside, upper, (2 * fine_mm[0], 2 * fine_mm[1]))
    middle = inside[len(inside) // 4 : len(inside) - len(inside) // 4]
    tissue = blocks[inside]
    metal_cm2 = ((blocks > METAL_HU) & inside).sum(axis=(1, 2)) * cell_cm2
    return Measured(
        air_fraction=float((blocks < AIR_HU).mean()),
        brain_hu=float(np.median(tissue)) if tissue.size else float("nan"),
        levels=_levels(hu[len(hu) // 2]),
        ring_fraction=float(middle.any(axis=(1, 2)).mean()),
        spots=spots,
        spots_mm=spots_mm,
        arteries_mm=_arteries(fine, blocks, inside, slab_mm, fine_mm),
        brain_mm=float(slab_mm[upper].sum()),
        sinus_hu=_sinus(fine[upper], inside[upper], fine_mm),
        confluence_hu=max(
            (_confluence(fine, at, inside[at], fine_mm) for at in upper.tolist() if 0 < at < len(fine) - 1),
            default=0.0,
        ),
        base=len(upper) > 0 and bool(upper[0] > 0),
        noise_hu=noise_hu,
        grain=grain,
        metal_ml=float(metal_cm2 @ slab_mm / 10),
    )


def _cell_mm(pixel_mm: float) -> float:
    """The side of a cell: the same on every image, but for coarse pixels."""
    return pixel_mm if COARSE_MM <= pixel_mm <= 2 * FINE_MM else FINE_MM


def brain_of(image: Floats, cell_cm2: float) -> Mask:
    """What a closed ring of bone surrounds on one slice of blocks; empty where nothing brain-like is surrounded."""
    nothing = np.zeros(image.shape, np.bool_)
    bone = closed(np.pad(image > BONE_HU, 4), 2, square=True)[4:-4, 4:-4]
    ring = _largest(bone, SQUARE)
    inside = _surrounded(ring)
    inside = _largest(opened(inside, 2, square=True), CROSS)
    if not RING_CM2[0] <= inside.sum() * cell_cm2 <= RING_CM2[1] or (image[inside] > -30).mean() < 0.9:
        return nothing
    return inside | _surrounded(inside)


def _surrounded(ring: Mask) -> Mask:
    """What cannot be reached from the edge of the image without crossing `ring`."""
    labels, count = ndimage.label(~ring, CROSS)
    outside = np.zeros(count + 1, np.bool_)
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        outside[edge] = True
    outside[0] = True  # the ring itself
    return np.asarray(~outside[labels], np.bool_)


def _largest(mask: Mask, structure: Mask) -> Mask:
    labels, count = ndimage.label(mask, structure)
    if count == 0:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == sizes.argmax(), np.bool_)


def _levels(image: npt.NDArray[np.generic]) -> int:
    return len(np.unique(image[np.greater_equal(image, 0) & np.less_equal(image, 80)]))


def _spots(blocks: Floats, inside: Mask, cell_cm2: float, slab_mm: heights.Array) -> tuple[int, float]:
    """Islands as bright as an enhanced vessel that do not touch the skull, and the height of the slices with any."""
    spots, spots_mm = 0, 0.0
    for image, brain, height_mm in zip(blocks, inside, slab_mm, strict=True):
        deep = shrunk(brain, 2)
        if (image[deep] > 400).sum() * cell_cm2 > 1:  # skull base
            continue
        labels, count = ndimage.label((image > VESSEL_HU) & grown(brain, 1), SQUARE)
        found = count - len(np.setdiff1d(np.unique(labels[~deep]), [0]))
        spots += found
        spots_mm += float(height_mm) if found >= 1 else 0.0
    return spots, spots_mm


def _arteries(
    fine: Floats, blocks: Floats, inside: Mask, slab_mm: heights.Array, fine_mm: tuple[float, float]
) -> float:
    """The height of the slabs that show several thin islands as bright as an artery in the front of the brain."""
    found_mm = 0.0
    for image, coarse, brain, height_mm in zip(fine, blocks, inside, slab_mm, strict=True):
        deep = shrunk(brain, DEEP_BLOCKS)
        rows, columns = np.flatnonzero(brain.any(axis=1)), np.flatnonzero(deep.any(axis=0))
        if not len(columns):
            continue
        end = round(float(rows[0]) + FRONT * float(rows[-1] - rows[0]))
        front = np.s_[rows[0] : end, columns[0] : columns[-1] + 1]
        bone = grown(coarse[front] > SKULL_BASE_HU, SKULL_BASE_BLOCKS, square=True)
        large = np.kron(deep[front] & ~bone, np.ones((2, 2), np.bool_))
        part = image[2 * rows[0] : 2 * end, 2 * columns[0] : 2 * (columns[-1] + 1)]
        labels, count = ndimage.label((part > ARTERY_HU) & large, SQUARE)
        if count < ARTERIES:
            continue
        each = np.arange(1, count + 1)
        area_mm2 = np.bincount(labels.ravel(), minlength=count + 1)[1:] * fine_mm[0] * fine_mm[1]
        radius_mm = ndimage.maximum(ndimage.distance_transform_edt(labels > 0, sampling=fine_mm), labels, each)
        whole = ~np.isin(each, labels[large & ~shrunk(large, 1)])  # not cut by the edge of what is looked at
        bright = ndimage.maximum(part, labels, each) > ARTERY_PEAK_HU
        arteries = whole & bright & (area_mm2 < ARTERY_MM2) & (np.asarray(radius_mm) <= ARTERY_RADIUS_MM)
        found_mm += float(height_mm) if np.count_nonzero(arteries) >= ARTERIES else 0.0
    return found_mm


def _sinus(fine: Floats, inside: Mask, fine_mm: tuple[float, float]) -> tuple[float, float]:
    """Lower quartile and median over slabs of the brightest 4 mm, free of bone, near the back inner table, midline."""
    size = max(2, round(4 / fine_mm[0]))
    near, far, aside = round(2 / fine_mm[0]), round(9 / fine_mm[0]), round(7 / fine_mm[1])
    falx = round(14 / fine_mm[0]), round(26 / fine_mm[0])
    found = []
    for image, brain in zip(fine, inside, strict=True):
        middle = 2 * int(np.median(np.nonzero(brain)[1]))
        first = max(0, middle - aside - size)
        strip = image[:, first : middle + aside + size]
        mean = ndimage.uniform_filter(strip, size)
        mean[ndimage.maximum_filter(strip, size) >= VESSEL_LIMIT_HU] = 0

        def brightest(start: int, stop: int, column: int, mean: Floats = mean) -> float:
            return float(mean[max(0, start) : max(0, stop), column].max(initial=0.0))

        best = ahead = 0.0
        for column in range(max(0, middle - aside), min(2 * brain.shape[1], middle + aside + 1)):
            rows = np.flatnonzero(brain[:, column // 2])
            if len(rows):
                back = 2 * int(rows[-1]) + 1
                best = max(best, brightest(back - far, back - near + 1, column - first))
                ahead = max(ahead, brightest(back - falx[1], back - falx[0], column - first))
        found.append(min(best, BRAIN_HU[1]) if ahead > best - ALONG_FALX_HU else best)
    return (float(np.percentile(found, 25)), float(np.median(found))) if found else (0.0, 0.0)


def _confluence(fine: Floats, index: int, brain: Mask, fine_mm: tuple[float, float]) -> float:
    """The brightest 4 mm of a slab within 9 mm of the back inner table, at the midline, that are even and not of bone.

    Bone that lies in a part of the slab goes on in the slab below or above, and that of the vault to the front. So
    neither the lowest nor the uppermost slab of a scan tells anything.
    """
    image, size = fine[index], max(2, round(4 / fine_mm[0]))
    near, far, aside = round(2 / fine_mm[0]), round(9 / fine_mm[0]), round(7 / fine_mm[1])
    middle = 2 * int(np.median(np.nonzero(brain)[1]))
    left = max(0, middle - aside - size)
    strip = image[:, left : middle + aside + size + 1]
    mean, brightest = ndimage.uniform_filter(strip, size), ndimage.maximum_filter(strip, size)
    mean[(brightest >= VESSEL_LIMIT_HU) | (brightest - mean > EVEN_HU)] = 0
    best, row, column = 0.0, 0, 0
    for across in range(max(0, middle - aside), min(2 * brain.shape[1], middle + aside + 1)):
        rows = np.flatnonzero(brain[:, across // 2])
        back = 2 * int(rows[-1]) + 1 if len(rows) else 0
        first = max(0, back - far)
        line = mean[first : max(0, back - near + 1), across - left]
        if line.max(initial=0.0) > best:
            best, row, column = float(line.max()), first + int(line.argmax()), across
    if best < CONFLUENCE_HU:
        return best
    around = np.s_[max(0, row - size // 2) : row + size // 2, max(0, column - size // 2) : column + size // 2]
    beside = [fine[at][around].mean() for at in (index - 1, index + 1)]
    island = ndimage.label((image > 0.75 * best) & (image < VESSEL_LIMIT_HU))[0]
    deep_mm = float(np.ptp(np.nonzero(island == island[row, column])[0])) * fine_mm[0]
    return best if max(beside) < BONE_HU and deep_mm <= EVEN_MM else 0.0


def _noise(
    hu: npt.NDArray[np.generic],
    pixel_mm: tuple[float, float],
    inside: Mask,
    upper: npt.NDArray[np.intp],
    block_mm: tuple[float, float],
) -> tuple[float, float]:
    """Standard deviation and correlation at 0.9 mm of what remains of the brain without its smooth part."""
    lag = max(1, round(GRAIN_MM / pixel_mm[1]))
    size = max(3, round(4.0 / pixel_mm[0]))
    variances, products = [], []
    for index in upper[len(upper) // 4 :: max(1, len(upper) // 4)][:3]:
        deep = shrunk(inside[index], 4)
        rows, columns = (
            ((np.arange(count) + 0.5) * mm / block).astype(np.intp)
            for count, mm, block in zip(hu.shape[1:], pixel_mm, block_mm, strict=True)
        )
        pixels = deep[np.ix_(rows[rows < deep.shape[0]], columns[columns < deep.shape[1]])]
        image = hu[index, : pixels.shape[0], : pixels.shape[1]].astype(np.float32)
        rest = np.clip(image - ndimage.uniform_filter(image, size), -300, 300)
        pair = pixels[:, :-lag] & pixels[:, lag:]
        if pair.sum() > 1000:
            variances.append(float(np.median(np.abs(rest[pixels])) ** 2 * 2.2))
            one, other = rest[:, :-lag][pair], rest[:, lag:][pair]
            products.append(float((one * other).mean() / np.sqrt((one**2).mean() * (other**2).mean() + 1e-6)))
    return (float(np.sqrt(np.median(variances))), float(np.median(products))) if variances else (0.0, 1.0)


def _stack(volume: Volume) -> geometry.Stack:
    """The stack that the slices of a volume form."""
    column, row = (volume.affine[:3, axis] / np.linalg.norm(volume.affine[:3, axis]) for axis in (1, 2))
    return geometry.stack_of(
        [
            geometry.Plane(
                sop_instance_uid=uid,
                position=(position[0], position[1], position[2]),
                row=(row[0], row[1], row[2]),
                column=(column[0], column[1], column[2]),
                pixel_mm=volume.spacing_mm[1:],
                shape=(volume.hu.shape[1], volume.hu.shape[2]),
            )
            for uid, position in zip(volume.sop_instance_uids, volume.positions_mm, strict=True)
        ]
    )
