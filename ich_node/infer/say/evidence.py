"""What speaks for a label inside the skull: where its CAM is lit, and how much of that is as dense as blood.

In: the CAM of the labels that reach their thresholds. Out: the evidence of those that are findings of their own. One
clot has one name: a type is no finding of its own when the blood under its map lies where that type cannot (places.py),
or when a more probable type that can be there explains it. "Any" takes in the evidence of its types, so that nothing
said of it contradicts them. Arrays are [slices, h, w] on the blocks of `Inside`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ich_node.domain.findings import LABELS, ModelCard, Prediction
from ich_node.infer.say import explain, places
from ich_node.infer.say.headspace import HeadFrame
from ich_node.infer.say.skull import Inside
from ich_node.infer.see.blocks import Mask, box_of, grown, opened, shrunk
from ich_node.infer.see.heights import Array, extents_mm

ANY = LABELS[0]  # the first label: any hemorrhage
BLOOD_HU = (45.0, 100.0)
"""Clotted and fresh blood on CT; grey matter ends below 45 HU, and calcium and bone lie above 100."""

NOT_AS_DENSE = 0.25
"""Weight of evidence elsewhere: thin blood in a thick slice, or old blood."""

MINOR_PART = 0.1
"""A connected part with less than this share of the heat of the largest one is a speck; chosen."""

DENSE_HU = (50.0, 100.0)
"""Blood that nothing else in a head looks like: 10 HU above the densest grey matter."""

OWN_ML = 1.0
"""Dense blood that no more probable type explains, from which a type is a finding of its own. Chosen: in 24 heads of
CT-ICH and 22 scans of phantoms with one lesion, types that are not there had at most 0.7 ml; of nine that are there,
five had 1.0 ml and more."""

THIN = "subarachnoid"
"""The type whose blood is mostly too thin to be a clot, and mostly on both sides; so may be what has no type."""

WIDE = 0.5
"""Chosen: thin blood is looked for on slices with this share of the largest area inside the skull: lower down, averages
of bone and brain look like it."""

REACH_BLOCKS = 4
"""Blocks of 2 mm around a lit area that it explains too: a CAM cell is 6 to 8 mm wide."""

CLOT_BLOCKS = 10
"""Blocks through which an explanation runs on inside one clot: 20 mm, the size of a large one; blood that fills half a
head may still have two names."""

BELIEVED = 0.5
"""A part of what is lit counts when the model believes half as much in its likeliest slice as in the likeliest of all.
Of 24 scans of phantoms, what was lit without blood had .44 at most beside parts of .99, what bled .61 and more."""

BELIEF = 3
"""Power of the slice's probability with which its evidence counts: what is lit where the model hardly believes in a
hemorrhage (skull base) does not become the best slice. Chosen on phantoms of which the lesion is known."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Of one label. heat: CAM inside the skull. lit: where it counts. weight: heat where lit, less where not blood.

    clot: dense blood that what is lit belongs to. elsewhere: the rest of what looks like dense blood. belief: [slices],
    the model's probability of the label on each slice. thin: all dense blood of the head, however thin; None for types
    whose blood is not.
    """

    heat: Floats
    lit: Mask
    weight: Floats
    clot: Mask
    elsewhere: Mask
    belief: Floats
    thin: Mask | None = None

    @classmethod
    def of(
        cls, heat: Floats, lit: Mask, hu: Floats, belief: Floats, clots: Mask, explained: Mask, thin: Mask | None = None
    ) -> Evidence:
        """With its weight by the density `hu` of the blocks; clots: all dense blood, of which it explains a part."""
        weight = np.where(lit, heat, 0) * blood_gate(hu)
        return cls(heat, lit, weight, clots & explained, clots & ~explained, belief, thin)

    @property
    def place(self) -> Floats:
        """What side and sites are read from: the weight where lit, and all of the clot that it belongs to.

        A map may light a part of a clot only, even the part beyond the midline; a reader sees the clot.
        """
        return np.where(self.lit, self.weight, self.clot.astype(np.float32))

    @property
    def best(self) -> int:
        """The slice with most of the evidence: where most blood is, not where a single cell is hottest."""
        mass = self.weight.sum(axis=(1, 2))
        believed = mass * self.belief**BELIEF
        return int(np.argmax(believed if believed.any() else mass))


def gather(
    prediction: Prediction,
    called: Sequence[str],
    box: tuple[int, ...],
    card: ModelCard,
    space: Inside,
    heights_mm: Array,
    frame: HeadFrame | None,
) -> dict[str, Evidence]:
    """The evidence of `called` labels that are findings of their own: "any" first, then types, the likeliest first.

    `box`: rows and columns of the head box that CAM and blocks lie on. `frame`: the study in the standard head.
    """
    if not called:
        return {}
    heat = {label: explain.block_heat(prediction, label, space, box) for label in called}
    belief = {label: prediction.slice_probability[:, LABELS.index(label)] for label in called}
    lit = {}
    for label in called:
        likeliest = explain.likeliest_slice(prediction, label, heat[label])
        lit[label] = lit_blocks(heat[label], likeliest, card.cam_threshold, belief[label])
    types = {label: lit[label] for label in likeliest_first(prediction, called) if label != ANY}
    clots = clots_of(space)
    explained = findings_of_their_own(types, clots, space, heights_mm, frame)
    whole = _explained(lit[ANY], clots)
    for label, mask in explained.items():  # "any" takes in the evidence of its types
        heat[ANY] = np.maximum(heat[ANY], np.where(lit[label], heat[label], 0))
        lit[ANY], whole = lit[ANY] | lit[label], whole | mask
    thin = {ANY, THIN} if THIN in explained or not explained else set()
    blood = thin_blood(space) if thin else None
    return {
        label: Evidence.of(
            heat[label], lit[label], space.hu, belief[label], clots, mask, blood if label in thin else None
        )
        for label, mask in {ANY: whole, **explained}.items()
    }


def clots_of(space: Inside) -> Mask:
    """Dense blood of the thickness of a clot, away from the bone; falx and tentorium are thinner."""
    return opened(dense(space.hu) & shrunk(space.mask, 1), 1)


def thin_blood(space: Inside) -> Mask:
    """Dense blood of any thickness, away from what is denser on the same slice and its neighbours."""
    denser = space.hu > DENSE_HU[1]
    near = denser.copy()
    near[1:] |= denser[:-1]
    near[:-1] |= denser[1:]
    area = space.mask.sum(axis=(1, 2))
    wide = (area > WIDE * area.max(initial=0))[:, None, None]
    away = ~np.stack([grown(slab, 1, square=True) for slab in near])
    return np.asarray(dense(space.hu) & shrunk(space.mask, 1) & away & wide)


def dense(hu: Floats) -> Mask:
    """Where blocks are as dense as clotted blood and nothing else in a head."""
    return np.asarray((hu >= DENSE_HU[0]) & (hu <= DENSE_HU[1]))


def likeliest_first(prediction: Prediction, labels: Sequence[str]) -> list[str]:
    """`labels` by their study probability, the highest first."""
    return sorted(labels, key=lambda label: -float(prediction.study_probability[LABELS.index(label)]))


def findings_of_their_own(
    types: Mapping[str, Mask], clots: Mask, space: Inside, heights_mm: Array, frame: HeadFrame | None
) -> dict[str, Mask]:
    """Of types with what they light, the likeliest first: those that explain blood which none before them explains.

    Out: each with what it explains: a rim around what is lit, and the `clots` that it belongs to.

    Blood that lies where a type cannot is not explained by it; all of them may be passed over so, and the type is not
    known then. The first one needs no dense blood: an old or thin hemorrhage may have none.
    """
    block_ml = _block_ml(space, heights_mm)
    own: dict[str, Mask] = {}
    explained = np.zeros(space.mask.shape, np.bool_)
    for label, lit in types.items():
        blood = lit & dense(space.hu)
        if not places.possible(label, blood if blood.any() else lit, space, frame):
            continue
        blood_ml = float((blood & ~explained).sum(axis=(1, 2)) @ block_ml)
        if own and blood_ml < OWN_ML:
            continue
        own[label] = _explained(lit, clots)
        explained |= own[label]
    return own


def _explained(lit: Mask, clots: Mask) -> Mask:
    """What a lit area explains: a rim around it, and the clots that it touches as far as CLOT_BLOCKS."""
    explained = np.zeros(lit.shape, np.bool_)
    box = box_of(lit, REACH_BLOCKS + CLOT_BLOCKS)
    around = grown(lit[box], REACH_BLOCKS)
    cross = ndimage.generate_binary_structure(3, 1)
    reached = ndimage.binary_dilation(around, structure=cross, iterations=CLOT_BLOCKS, mask=clots[box])
    explained[box] = around | reached
    return explained


def lit_blocks(heat: Floats, likeliest: int, threshold: float, belief: Floats) -> Mask:
    """Where the CAM reaches the threshold, without specks; at least the brighter half of the likeliest slice.

    A speck is a connected part with less than MINOR_PART of the heat of the largest part, or one on slices in which the
    model does not believe (`belief`, [slices]).
    """
    lit = heat >= threshold
    if not lit[likeliest].any():
        lit[likeliest] = heat[likeliest] >= max(heat[likeliest].max() / 2, 1e-6)
    box = box_of(lit)
    parts, count = ndimage.label(lit[box], structure=np.ones((3, 3, 3)))
    if count < 2:
        return np.asarray(lit, np.bool_)
    mass = ndimage.sum_labels(heat[box], parts, np.arange(count + 1))
    mass[0] = 0
    believed = np.array([0, *(belief[box[0]][place[0]].max() for place in ndimage.find_objects(parts))])
    keep = (mass >= MINOR_PART * mass.max()) & (believed >= BELIEVED * believed.max())
    keep[np.unique(parts[likeliest - box[0].start])] = True
    keep[0] = False
    lit[box] = keep[parts]
    return np.asarray(lit, np.bool_)


def beyond_types(found: Mapping[str, Evidence], space: Inside, heights_mm: Array) -> bool:
    """Whether "any" has OWN_ML and more of what is as dense as blood where none of its types has any."""
    own = found[ANY]
    blood = own.clot | (own.lit & (own.weight == own.heat))
    for label, other in found.items():
        if label != ANY:
            blood = blood & ~other.clot & ~grown(other.lit, REACH_BLOCKS)
    return float(blood.sum(axis=(1, 2)) @ _block_ml(space, heights_mm)) >= OWN_ML


def _block_ml(space: Inside, heights_mm: Array) -> npt.NDArray[np.float32]:
    """The volume of a block on each slice, [slices]."""
    return space.block_mm[0] * space.block_mm[1] / 1000 * np.asarray(extents_mm(heights_mm), np.float32)


def blood_gate(hu: Floats) -> Floats:
    """Weight of a block's evidence by its density in HU."""
    return np.where((hu >= BLOOD_HU[0]) & (hu <= BLOOD_HU[1]), 1, NOT_AS_DENSE).astype(np.float32)
