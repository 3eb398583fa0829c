"""What readers thought of a result: one file that only grows, a JSON object a line, durable before it is thanked for.

No patient data: job, UIDs, what the node said, what the reader said, who and when.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from ich_node.domain.findings import LABELS, Laterality

OPINIONS = ("agree", "disagree", "unsure")
COMMENT_LENGTH = 500  # a remark, not a report
MODE = 0o640  # written by the board alone, and read by its group


@dataclass(frozen=True, slots=True)
class Feedback:
    """One reader's opinion of one job. label, side: what it should have been, "" where nothing was said."""

    moment: float
    job_id: int
    study_uid: str
    series_uid: str
    said: str
    reader: str
    opinion: str
    label: str = ""
    side: str = ""
    comment: str = ""

    def __post_init__(self) -> None:
        if self.opinion not in OPINIONS:
            raise ValueError(f"an opinion is one of {', '.join(OPINIONS)}")
        if self.label and self.label not in (*LABELS, "none"):
            raise ValueError("a type is one of the six labels, or none")
        if self.side and self.side not in set(Laterality):
            raise ValueError("a side is left, right, bilateral or midline")
        if len(self.comment) > COMMENT_LENGTH:
            raise ValueError(f"a comment has at most {COMMENT_LENGTH} characters")


class Book:
    """The file of opinions."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries: list[Feedback] = list(_read(path))

    def add(self, entry: Feedback) -> None:
        """Keep an opinion; it is on stable storage when this returns."""
        line = (json.dumps(asdict(entry), ensure_ascii=False) + "\n").encode()
        self._path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, MODE)
        try:
            end = os.fstat(descriptor).st_size
            torn = end > 0 and os.pread(descriptor, 1, end - 1) != b"\n"  # by a power cut; it is skipped when read
            os.write(descriptor, b"\n" * torn + line)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._entries.append(entry)

    @property
    def entries(self) -> tuple[Feedback, ...]:
        """Every opinion, oldest first."""
        return tuple(self._entries)

    def of_job(self, job_id: int) -> list[Feedback]:
        """Every opinion of a job, oldest first."""
        return [entry for entry in self._entries if entry.job_id == job_id]

    def reviewed(self) -> Mapping[int, str]:
        """Job → its last opinion."""
        return {entry.job_id: entry.opinion for entry in self._entries}

    def as_csv(self) -> str:
        """All of it as a table with a header (RFC 4180). A cell never begins like a formula of a spreadsheet."""
        out = io.StringIO()
        table = csv.writer(out)
        names = [item.name for item in fields(Feedback)]
        table.writerow(names)
        for entry in self._entries:
            table.writerow([_plain(getattr(entry, name)) for name in names])
        return out.getvalue()


def _plain(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" and value else value


def _read(path: Path) -> Iterator[Feedback]:
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        try:
            yield Feedback(**json.loads(line))
        except (ValueError, TypeError):
            continue  # torn by a power cut, or of a newer version
