"""The child process that reads headers and judges series: `python -m ich_node.receive.judge`, asked by judging.py.

No header, no word and no geometry that a stranger made up is looked at in the process that receives. This one opens
files for reading and nothing else (runtime/caged.py). It keeps what it has read of a series for a while.
"""

from __future__ import annotations

import codecs
import json
import re
import time
import warnings
from pathlib import Path
from typing import Any

from pydicom.charset import python_encoding

from ich_node.dicom import eligibility, owner
from ich_node.dicom.eligibility import Eligible, Verdict
from ich_node.dicom.reading import text
from ich_node.domain.dicom import AETitle, Peer
from ich_node.domain.ledger import hashed
from ich_node.domain.reasons import Reason, Why
from ich_node.receive import completeness
from ich_node.receive.owners import ImageSet, judged, parted
from ich_node.receive.reading import Reading, same_picture
from ich_node.runtime import caged

MEMORY = 512 << 20
"""Bytes of address space beyond what the libraries take: the headers of 5,000 slices take a tenth of it."""
MOST_KEPT, KEPT_S = 50_000, 3600.0
"""Headers that are kept, the ones that were asked for last: of more series than are judged at a time. After an hour
they are read again: retention may have taken the images, and others have come under the same names."""
READ_S = 0.02
"""CPU seconds of reading until the next question: a few images, so that every series gets its turn."""
KEYWORDS = (*eligibility.KEYWORDS, *completeness.KEYWORDS, *owner.KEYWORDS, "AccessionNumber")

Answer = dict[str, Any]


class Judge:
    """Answers questions about series; the words of both are those of JSON."""

    def __init__(self) -> None:
        self._readings: dict[str, Reading] = {}  # by folder, the last one used last

    def answer(self, question: dict[str, Any]) -> Answer:
        """See the methods, of which `do` names one; folder: that of the series, urgent: attribute → pattern."""
        do = {"look": self._look, "read": self._read, "judge": self._judge, "verdict": self._verdict}
        return do[question["do"]](question)

    def _look(self, question: dict[str, Any]) -> Answer:
        """The addresses that brought something, and what they have cost."""
        return {"addresses": self._reading(question, anew=True).costs}

    def _read(self, question: dict[str, Any]) -> Answer:
        """Read on; addresses: the one whose images. Whether there are more, and what they have cost."""
        reading, (address,) = self._reading(question), question["addresses"]
        return {"more": reading.read(address, READ_S), "cost": reading.costs.get(address, 0.0)}

    def _judge(self, question: dict[str, Any]) -> Answer:
        """addresses: whose images. refused: [[peer or null, code]], of images that have not come again."""
        reading, addresses = self._reading(question), question["addresses"]
        if reading.is_unread(addresses):
            return {"unread": True}
        refused = {_peer(sender): Reason(Why(code)) for sender, code in question["refused"]}
        images = reading.images(addresses)
        sets = parted(images, same_picture)
        verdicts = judged(sets, refused.get)
        urgent = {keyword: re.compile(pattern) for keyword, pattern in question["urgent"].items()}
        is_one = len(sets) == 1 and isinstance(verdicts[0], Eligible)
        return {
            "sets": [_told(each, verdict, urgent) for each, verdict in zip(sets, verdicts, strict=True)],
            "whole": is_one and completeness.is_whole_stack(sets[0].headers),
            "read": [image.instance.name for image in images],
            "too_costly": sorted(reading.left_out(addresses)),
            "unreadable": reading.unreadable,
        }

    def _verdict(self, question: dict[str, Any]) -> Answer:
        """names: of files. Whether they may be analysed."""
        names = set(question["names"])
        headers = [image.header for image in self._reading(question).images() if image.instance.name in names]
        return {"eligible": isinstance(eligibility.verdict(headers), Eligible)}

    def _reading(self, question: dict[str, Any], *, anew: bool = False) -> Reading:
        folder = question["folder"]
        reading = self._readings.pop(folder, None)
        if reading is not None and anew and time.monotonic() - reading.looked_s > KEPT_S:
            reading = None
        if reading is None or anew:
            reading = reading or Reading(Path(folder), (*KEYWORDS, *question["urgent"]))
            reading.look()
        self._readings[folder] = reading
        while len(self._readings) > 1 and sum(map(len, self._readings.values())) > MOST_KEPT:
            del self._readings[next(iter(self._readings))]
        return reading


def _told(images: ImageSet, verdict: Verdict, urgent: dict[str, re.Pattern[str]]) -> Answer:
    header = images.images[0].header
    accession = text(header, "AccessionNumber")
    return {
        "study": images.owner.study_uid,
        "names": [image.instance.name for image in images.images],
        "sender": _title_and_address(images.sender),
        "senders": [_title_and_address(sender) for sender in images.senders],
        "patient": hashed(images.owner.patient_id),
        "accession": hashed(accession) if accession else None,
        "verdict": type(verdict).__name__,
        "reason": None if isinstance(verdict, Eligible) else _in_words(verdict.reason),
        "urgent": any(pattern.search(text(header, keyword)) for keyword, pattern in urgent.items()),
    }


def _in_words(reason: Reason) -> list[Any]:
    return [str(reason.code), {n: _in_words(v) if isinstance(v, Reason) else v for n, v in reason.values}]


def _title_and_address(peer: Peer | None) -> list[str] | None:
    return [peer.ae_title, peer.address] if peer else None


def _peer(words: list[str] | None) -> Peer | None:
    return Peer(AETitle(words[0]), words[1]) if words else None


def main() -> None:
    """Answer until stdin ends."""
    warnings.simplefilter("ignore")  # they quote values
    for name in set(python_encoding.values()):  # loaded when they are first used
        codecs.lookup(name)
    judge = Judge()
    for question, _, peer in caged.questions(MEMORY, reads=True):
        with caged.deadline(question["cpu_s"]):
            answer = judge.answer(question)
        peer.sendall(json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    main()
