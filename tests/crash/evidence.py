"""What is there in the end, read without the node's own code: files byte by byte, rows by plain SQL."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from pydicom import dcmread

ENDED = frozenset({"done", "failed", "ineligible"})
Ask = Callable[[str], list[tuple[object, ...]]]
"""SQL → rows, of a ledger that is not the file in the state directory."""


@dataclass(frozen=True)
class Verdict:
    """acknowledged: instances that the sender was told are safe. lost: of those, not held whole and byte-equal.

    owed: result instances of finished jobs. missing: of those, not in the PACS. doubled: in the PACS without being
    owed, or with two contents under one UID. unfinished, failed: jobs. sent_again: identical C-STOREs beyond the first.
    """

    acknowledged: int
    lost: tuple[str, ...]
    owed: int
    missing: tuple[str, ...]
    doubled: tuple[str, ...]
    unfinished: int
    failed: int
    jobs: int
    sent_again: int


class Pacs(Protocol):
    """What a PACS has: SOP Instance UID → distinct contents, and which came with more than one."""

    contents: dict[str, set[str]]

    @property
    def contradictory(self) -> list[str]: ...
    @property
    def sent_again(self) -> int: ...


def judge(state_dir: Path, acknowledged: Iterable[Path], pacs: Pacs, ask: Ask | None = None) -> Verdict:
    """Compare what was promised with what is there."""
    sent = list(acknowledged)
    states = job_states(state_dir, ask)
    owed = owed_instances(state_dir, ask)
    held = set(pacs.contents)
    return Verdict(
        acknowledged=len(sent),
        lost=tuple(
            str(path) for path in sent if not is_held(state_dir, path) and not was_finished(state_dir, path, ask)
        ),
        owed=len(owed),
        missing=tuple(sorted(owed - held)),
        doubled=tuple(sorted((held - owed) | set(pacs.contradictory))),
        unfinished=sum(state not in ENDED for state in states),
        failed=sum(state == "failed" for state in states),
        jobs=len(states),
        sent_again=pacs.sent_again,
    )


def was_finished(state_dir: Path, sent: Path, ask: Ask | None = None) -> bool:
    """True when retention took its whole series, after the job of it was done: a full disk makes room that way."""
    series_uid = str(dcmread(sent, specific_tags=["SeriesInstanceUID"]).SeriesInstanceUID)
    rows = (ask or partial(query, state_dir))(f"SELECT state FROM job WHERE series_uid = '{series_uid}'")  # noqa: S608
    states = [state for (state,) in rows]
    return "done" in states and not (state_dir / "incoming" / series_uid).exists()


def is_held(state_dir: Path, sent: Path) -> bool:
    """True when the spool holds exactly the dataset that was sent, in the same transfer syntax."""
    header = dcmread(sent, stop_before_pixels=True)
    held = state_dir / "incoming" / header.SeriesInstanceUID / f"{header.SOPInstanceUID}.dcm"
    if not held.is_file():
        return False
    syntax = dcmread(held, stop_before_pixels=True).file_meta.TransferSyntaxUID
    return syntax == header.file_meta.TransferSyntaxUID and dataset_bytes(held) == dataset_bytes(sent)


def dataset_bytes(path: Path) -> bytes:
    """The dataset of a DICOM file as it lies there, without preamble and File Meta Information (PS3.10 7.1)."""
    data = path.read_bytes()
    tag, length = data[132:136], struct.unpack("<I", data[140:144])[0]
    if data[128:132] != b"DICM" or tag != b"\x02\x00\x00\x00":
        raise ValueError(f"{path} is not a DICOM file with a group length")
    return data[144 + length :]


def job_states(state_dir: Path, ask: Ask | None = None) -> list[str]:
    """The state of every job."""
    return [str(state) for (state,) in (ask or partial(query, state_dir))("SELECT state FROM job")]


def owed_instances(state_dir: Path, ask: Ask | None = None) -> set[str]:
    """The result instances of all published jobs, by the result.json that was published with them.

    Where retention has taken it to make room, by the ledger, which keeps what was delivered.
    """
    ask = ask or partial(query, state_dir)
    published = ask("SELECT id FROM job WHERE state IN ('delivering', 'done')")
    owed: set[str] = set()
    for (job_id,) in published:
        try:
            result = json.loads((state_dir / "results" / str(job_id) / "result.json").read_text())
        except FileNotFoundError:
            rows = ask(f"SELECT item FROM delivery WHERE job_id = {job_id} AND sop_class_uid != ''")  # noqa: S608
            owed |= {str(item) for (item,) in rows}
        else:
            owed |= {item["sop_instance_uid"] for item in result["objects"]}
    return owed


def query(state_dir: Path, statement: str) -> list[tuple[object, ...]]:
    """Rows of node.db; none while there is no database."""
    path = state_dir / "node.db"
    if not path.exists():
        return []
    end = time.monotonic() + 30
    while True:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)
        try:
            return connection.execute(statement).fetchall()
        except sqlite3.OperationalError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)  # a hot journal: the roles roll it back
        finally:
            connection.close()


def digest(paths: Iterable[Path]) -> tuple[str, str]:
    """(Series Instance UID, SHA-256 over the sorted SOP Instance UIDs, one per line) of the files of one series."""
    headers = [dcmread(path, stop_before_pixels=True) for path in paths]
    uids = sorted(str(header.SOPInstanceUID) for header in headers)
    return str(headers[0].SeriesInstanceUID), hashlib.sha256("\n".join(uids).encode()).hexdigest()


def wait_until_done(
    state_dir: Path, series: Sequence[Sequence[Path]], deadline: float, ask: Ask | None = None
) -> float:
    """Wait until each whole series has a job and every job has ended; returns the seconds waited.

    deadline: time.monotonic() after which TimeoutError is raised.
    """
    started = time.monotonic()
    expected = {digest(paths) for paths in series}
    while True:
        rows = (ask or partial(query, state_dir))("SELECT series_uid, input_digest, state FROM job")
        missing = expected - {(uid, input_digest) for uid, input_digest, _ in rows}
        open_jobs = [state for _, _, state in rows if state not in ENDED]
        if not missing and not open_jobs:
            return time.monotonic() - started
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(missing)} series without a job, jobs not ended: {sorted(open_jobs)}")
        time.sleep(0.2)
