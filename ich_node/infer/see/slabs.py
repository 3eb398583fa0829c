"""Thin slices as slabs of about 5 mm, the thickness that the network was trained on, and the way back.

In: a `Volume`. Out: `Slabs`, which holds the same head as a volume of slabs (mean HU, each slice weighing the stretch
that it speaks for). A slice that fills a slab alone stays as it is, so that series of 5 mm are not touched. What was
found on slabs is brought back to the slices that people know: ranges to the first and last slice of a slab, a peak to
the slice of its slab that shows most blood there, probabilities and CAM by interpolation between slab centres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ich_node.domain.findings import Finding, KeySlice, Peak, Prediction, Volume
from ich_node.infer.see.heights import extents_mm, slab_starts

SLAB_MM = 5.0
"""The thickness of the slices that the network was trained on."""

BLOOD_HU = (45, 100)
"""Fresh blood; bone and brain are the same on all the slices of a slab."""

PEAK_MM = 2.0
"""Half the side of the square around a peak in which blood is looked for: less than a cell of the CAM."""

Cells = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Slabs:
    """A volume as scanned, and as slabs: slices, for everybody who takes a `Volume`.

    thick: one "slice" per slab at its mean position, with UID and frame number of its middle slice, and no headers.
    starts: int [slabs], the first slice of each. middles: int [slabs], the slice nearest to the centre of each.
    """

    volume: Volume
    thick: Volume
    starts: npt.NDArray[np.intp]
    middles: npt.NDArray[np.intp]

    def slices(self, slab: int) -> range:
        """The slices of a slab."""
        ends = [*self.starts[1:], len(self.volume.hu)]
        return range(int(self.starts[slab]), int(ends[slab]))

    def prediction_back(self, prediction: Prediction) -> Prediction:
        """What was said about slabs, said about slices; the study's probability stays."""
        if self.thick is self.volume:
            return prediction
        return Prediction(
            self._between(prediction.slice_probability), prediction.study_probability, self._between(prediction.cam)
        )

    def findings_back(self, findings: Sequence[Finding]) -> tuple[Finding, ...]:
        """Findings with slab numbers → with slice numbers."""
        if self.thick is self.volume:
            return tuple(findings)
        return tuple(self._finding_back(finding) for finding in findings)

    def key_slices_back(self, keys: Sequence[KeySlice], findings: Sequence[Finding]) -> tuple[KeySlice, ...]:
        """Slabs worth showing → slices: that of the peak of the label that is shown, else the middle of the slab.

        `findings` have come back already.
        """
        if self.thick is self.volume:
            return tuple(keys)
        peaks = {finding.label: finding.peak.slice_index for finding in findings if finding.peak is not None}
        back = []
        for key in keys:
            peak = peaks.get(key.label, -1)
            shown = peak if peak in self.slices(key.slice_index) else int(self.middles[key.slice_index])
            back.append(replace(key, slice_index=shown))
        return tuple(back)

    def _between(self, values: Cells) -> Cells:
        """Values [slabs, …] at the slices [slices, …], straight between slab centres, flat beyond the ends."""
        centres, heights = self.thick.heights_mm, self.volume.heights_mm
        at = np.interp(heights, centres, np.arange(len(centres)))
        low = np.minimum(at.astype(np.intp), max(len(centres) - 2, 0))
        share = (at - low).astype(np.float32).reshape(-1, *[1] * (values.ndim - 1))
        high = np.minimum(low + 1, len(centres) - 1)
        return np.asarray((1 - share) * values[low] + share * values[high], np.float32)

    def _finding_back(self, finding: Finding) -> Finding:
        first, last = finding.first_slice, finding.last_slice
        return replace(
            finding,
            first_slice=None if first is None else self.slices(first - 1).start + 1,
            last_slice=None if last is None else self.slices(last - 1).stop,
            peak=None if finding.peak is None else self._peak_back(finding.peak),
        )

    def _peak_back(self, peak: Peak) -> Peak:
        """The peak on the slice of its slab with most blood around it; of equal ones, on the one nearest the middle."""
        volume, slab = self.volume, peak.slice_index
        reach = [max(1, round(PEAK_MM / mm)) for mm in volume.spacing_mm[1:]]
        rows = slice(max(0, peak.row - reach[0]), peak.row + reach[0] + 1)
        columns = slice(max(0, peak.column - reach[1]), peak.column + reach[1] + 1)
        around = volume.hu[self.starts[slab] : self.slices(slab).stop, rows, columns]
        blood = ((around >= BLOOD_HU[0]) & (around <= BLOOD_HU[1])).sum(axis=(1, 2))
        best = np.flatnonzero(blood == blood.max()) + self.starts[slab]
        index = int(best[np.abs(best - self.middles[slab]).argmin()])
        x, y, z = volume.positions_mm[index] + peak.row * volume.affine[:3, 1] + peak.column * volume.affine[:3, 2]
        frame_number = volume.frame_numbers[index] if volume.frame_numbers else None
        position = float(round(x, 2)), float(round(y, 2)), float(round(z, 2))
        return Peak(volume.sop_instance_uids[index], frame_number, index, peak.row, peak.column, position)


def slabs_of(volume: Volume) -> Slabs:
    """The slabs of a volume; the volume itself, untouched, where every slice is one."""
    heights = volume.heights_mm
    starts = slab_starts(heights, SLAB_MM)
    if len(starts) == len(heights):
        return Slabs(volume, volume, starts, starts)
    stretch = extents_mm(heights)
    height = np.add.reduceat(stretch, starts)
    share = stretch / np.repeat(height, np.diff([*starts, len(stretch)]))
    centres = np.add.reduceat(heights * share, starts)
    stops = [*starts[1:], len(stretch)]
    hu = np.stack([mean_hu(volume.hu[a:b], share[a:b]) for a, b in zip(starts, stops, strict=True)])
    middles = np.array(
        [a + int(np.abs(heights[a:b] - at).argmin()) for a, b, at in zip(starts, stops, centres, strict=True)], np.intp
    )
    positions = np.add.reduceat(volume.positions_mm * share[:, None], starts)
    spacing_mm = float(np.median(np.diff(centres))) if len(centres) > 1 else float(height[0])
    affine = volume.affine.copy()
    affine[:3, 0] *= spacing_mm / volume.spacing_mm[0]
    affine[:3, 3] = positions[0]
    thick = replace(
        volume,
        hu=hu,
        spacing_mm=(spacing_mm, *volume.spacing_mm[1:]),
        affine=affine,
        positions_mm=positions,
        sop_instance_uids=tuple(volume.sop_instance_uids[index] for index in middles),
        headers=(),
        frame_numbers=volume.frame_numbers and tuple(volume.frame_numbers[index] for index in middles),
    )
    return Slabs(volume, thick, starts, middles)


def mean_hu(hu: npt.NDArray[np.int16], share: npt.NDArray[np.float64]) -> npt.NDArray[np.int16]:
    """Mean of slices [slices, rows, columns] that weigh `share` [slices], which sum to 1; int16 [rows, columns]."""
    if len(hu) == 1:
        return np.asarray(hu[0], np.int16)
    total = np.zeros(hu.shape[1:], np.float32)
    for image, weight in zip(hu, share.astype(np.float32), strict=True):
        total += image * weight
    return np.asarray(np.rint(total), np.int16)
