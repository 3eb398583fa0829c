"""Whose images are these? From all images that claim one Series Instance UID to the sets that are judged. No I/O but
what `same` does.

A series belongs to nobody by its UID alone. Images are parted by their owner (study and patient, as the headers say)
and, where senders contradict each other, by sender. So an image that does not belong costs itself a place, never the
series: another patient's, a result of ours, one without a place in space, other bytes under a known UID. A whole set
that comes again under a corrected name is a set of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from pydicom import Dataset

from ich_node.dicom import eligibility
from ich_node.dicom.eligibility import Eligible, NotAnalysed, SetAside, Verdict
from ich_node.dicom.geometry import planes_of, stack_of
from ich_node.dicom.owner import Owner
from ich_node.domain.dicom import Instance, Peer
from ich_node.domain.errors import UnusableSeries
from ich_node.domain.reasons import Reason, Why

MOST_IMAGES = 4096
"""More than any head has: 300 mm in steps of 0.1 mm are 3,000."""
STRAY_SHARE = 0.1
"""So large a part of other owners' images, from one sender, is a mixture; fewer are strays."""


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """A stored instance with its header."""

    instance: Instance
    header: Dataset
    owner: Owner

    @property
    def uid(self) -> str:
        """The SOP Instance UID, which a second file may bear as well."""
        return self.instance.sop_instance_uid

    @property
    def is_placed(self) -> bool:
        """Whether the header says where its slices lie."""
        try:
            return bool(planes_of(self.header))
        except UnusableSeries:
            return False


@dataclass(frozen=True, slots=True, eq=False)
class ImageSet:
    """Images of one owner that are judged together, by arrival; not empty."""

    images: tuple[Image, ...]

    @property
    def owner(self) -> Owner:
        """Whose they are."""
        return self.images[0].owner

    @property
    def sender(self) -> Peer | None:
        """Who sent the first of them."""
        return self.images[0].instance.sender

    @property
    def senders(self) -> frozenset[Peer | None]:
        """Who sent them."""
        return frozenset(image.instance.sender for image in self.images)

    @property
    def headers(self) -> list[Dataset]:
        """Their headers."""
        return [image.header for image in self.images]

    @property
    def uids(self) -> frozenset[str]:
        """Their SOP Instance UIDs."""
        return frozenset(image.uid for image in self.images)


# --- sets ----------------------------------------------------------------------------------------------------------


def parted(images: Sequence[Image], same: Callable[[Image, Image], bool]) -> list[ImageSet]:
    """The sets to be judged, by arrival (`images` come in that order).

    same: whether two images of one owner under one SOP Instance UID show the same; the second one is left out then, and
    so is what an image of the same sender has replaced.
    """
    found: list[ImageSet] = []
    for owner in dict.fromkeys(image.owner for image in images):
        found += _of_owner(_without_copies([image for image in images if image.owner == owner], same))
    return found


def _without_copies(images: Sequence[Image], same: Callable[[Image, Image], bool]) -> list[Image]:
    kept: dict[str, list[Image]] = {}
    for image in images:
        others = kept.setdefault(image.uid, [])
        if not any(same(other, image) for other in others):
            others.append(image)
    return [image for image in images if any(image is each for each in kept[image.uid])]


def _of_owner(images: Sequence[Image]) -> list[ImageSet]:
    results = [image for image in images if eligibility.is_own(image.header)]
    others = [image for image in images if not eligibility.is_own(image.header)]
    return [ImageSet(tuple(part)) for part in (*_by_sender(others), results) if part]


def _by_sender(images: Sequence[Image]) -> list[list[Image]]:
    """All images together where their senders agree, else those of each sender.

    Senders agree when none contradicts another: no SOP Instance UID with two contents, and every slice in a place of
    its own. Images without a place in space, from one who sent no others, are judged by themselves.
    """
    by_sender: dict[Peer | None, list[Image]] = {}
    for image in images:
        by_sender.setdefault(image.instance.sender, []).append(image)
    if len(by_sender) <= 1:
        return [_newest(images)]
    placed = {sender for sender, part in by_sender.items() if any(image.is_placed for image in part)}
    strays = [part for sender, part in by_sender.items() if sender not in placed]
    together = [image for image in images if image.instance.sender in placed]
    if len(placed) <= 1 or _agree(together):
        return [_newest(together), *strays]
    return [*(_newest(by_sender[sender]) for sender in by_sender if sender in placed), *strays]


def _agree(images: Sequence[Image]) -> bool:
    if len({image.uid for image in images}) < len(images) or len(images) > MOST_IMAGES:
        return False
    try:
        stack = stack_of([plane for image in images if image.is_placed for plane in planes_of(image.header)])
    except UnusableSeries:
        return False
    return not stack.left_out and not stack.gaps


def _newest(images: Sequence[Image]) -> list[Image]:
    """The last one of each SOP Instance UID."""
    return list({image.uid: image for image in images}.values())


# --- verdicts ------------------------------------------------------------------------------------------------------


def judged(sets: Sequence[ImageSet], refused: Callable[[Peer | None], Reason | None]) -> list[Verdict]:
    """A verdict for each set, knowing the others.

    refused: why images of a sender were refused that have not come again; a head is not judged without them.
    """
    alone = [_alone(each) for each in sets]
    return [_beside(each, verdict, sets, alone, refused) for each, verdict in zip(sets, alone, strict=True)]


def _alone(images: ImageSet) -> Verdict:
    if len(images.images) > MOST_IMAGES:
        return SetAside(Reason(Why.TOO_MANY_IMAGES, limit=MOST_IMAGES))
    return eligibility.verdict(images.headers)


def _beside(
    this: ImageSet,
    verdict: Verdict,
    sets: Sequence[ImageSet],
    alone: Collection[Verdict],
    refused: Callable[[Peer | None], Reason | None],
) -> Verdict:
    others = [(other, theirs) for other, theirs in zip(sets, alone, strict=True) if other is not this]
    if isinstance(verdict, SetAside):
        return verdict
    if isinstance(verdict, NotAnalysed):
        eligible = [other for other, theirs in others if isinstance(theirs, Eligible)]
        if any(this.uids <= other.uids for other in eligible):
            return SetAside(Reason(Why.SENT_AGAIN))
        if any(other.owner == this.owner or other.sender != this.sender for other in eligible):
            return SetAside(Reason(Why.DISAGREES))
    strays = [o for o, _ in others if o.owner != this.owner and o.sender == this.sender and not o.uids & this.uids]
    share = STRAY_SHARE * len(this.images) if isinstance(verdict, Eligible) else 0
    if sum(len(other.images) for other in strays) > share:
        return NotAnalysed(Reason(Why.SEVERAL_OWNERS))
    reason = refused(this.sender)
    return verdict if reason is None else NotAnalysed(reason)
