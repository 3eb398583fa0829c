"""Durable files: what was received, and what was made of it.

    incoming/<SeriesInstanceUID>/<SOPInstanceUID>.dcm      images that may become a job
    set_aside/<SeriesInstanceUID>/<SOPInstanceUID>.dcm     everything else that a sender's job drags along
    results/<job id>/…                                     written by `draft_results`

Invariants: when `put` or `Writer.commit` returns, the file and its name are on stable storage (.part → write →
fdatasync → link under the final name → fsync of the directory). A file is written once and never changed. The same
dataset under the same SOP Instance UID is kept once; another one, of whom it may be, lies beside it as <UID>~2.dcm, so
that Success is never said for what is not kept. The file head names the sender. No UID outside [0-9.]{1,64} becomes a
path. Below the watermark nothing is taken, long before the disk is full.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ich_node.dicom.identity import Buffer, is_uid
from ich_node.dicom.part10 import dataset_offset, file_head, read_instance, sender_address
from ich_node.domain.dicom import AETitle, Instance, Peer
from ich_node.domain.errors import SpoolFull, UnidentifiableInstance
from ich_node.runtime import logs
from ich_node.store import durable
from ich_node.store.group_commit import GroupCommit
from ich_node.store.layout import IMAGE, StateDir

OUT_OF_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
MOST_BUFFERS = 512  # buffers in one writev; IOV_MAX is 1024
MOST_NAMED = 1000  # chosen: folders of a day; what is forgotten is made durable once more, which costs little
RECOVERY_FACTOR = 1.05  # chosen: 5 % above the watermark, so that the answer does not change with every image
MOST_RECENT = 1000
"""Folders that are remembered as written last: those of a busy day, 200 bytes each."""
FEW_NAMES = 64
"""So many questions for one name cost as much as a listing of a folder of 500."""
MOST_COPIES = 8
"""Different datasets under one SOP Instance UID that are kept: corrected demographics come once or twice."""
COMPARED_AT_A_TIME = 1 << 20  # bytes: of the order of one image
REFUSED, JUDGING = ".refused", "judging"


class Spool:
    """The files of one node; safe for many threads. `min_free_bytes` is the watermark.

    shared: other machines write and delete here as well.
    """

    def __init__(self, root: Path, min_free_bytes: int, *, shared: bool = False) -> None:
        """Use `root`, created with its folders as needed."""
        self._shared = shared
        self.token = secrets.token_hex(4)
        """Tells our half-written files from those of other processes, on this machine and on others."""
        self._state = state = StateDir(root)
        self.incoming, self.aside, self.results = state.incoming, state.aside, state.results
        self._min_free_bytes = min_free_bytes
        self._full = False
        self._lock = threading.Lock()
        self._sync = GroupCommit()
        self._recent: dict[Path, None] = {}  # folders in which something was written, the last one last
        self._named: set[Path] = set()  # folders of series whose own names are durable
        state.make()

    # --- writing ---------------------------------------------------------------------------------------------------

    def put(
        self,
        *,
        series_uid: str,
        sop_instance_uid: str,
        sop_class_uid: str,
        transfer_syntax_uid: str,
        parts: Sequence[Buffer],
        sender: Peer | None = None,
        aside: bool = False,
    ) -> Path:
        """Store a dataset (`parts`, in order, without file meta information); durable when this returns.

        aside: not an image that may become a job. Raises SpoolFull, OSError, or UnidentifiableInstance for a name that
        cannot be a path, or that MOST_COPIES different datasets bear already. The same dataset again changes nothing;
        another one under the same name is kept beside it.
        """
        writer = self.writer(
            series_uid=series_uid,
            sop_instance_uid=sop_instance_uid,
            sop_class_uid=sop_class_uid,
            transfer_syntax_uid=transfer_syntax_uid,
            sender=sender,
            aside=aside,
        )
        try:
            writer.write(parts)
            return writer.commit()
        finally:
            writer.discard()

    def writer(
        self,
        *,
        series_uid: str,
        sop_instance_uid: str,
        sop_class_uid: str,
        transfer_syntax_uid: str,
        sender: Peer | None = None,
        aside: bool = False,
    ) -> Writer:
        """Begin an instance that comes in several pieces; see `put` for what may be raised."""
        for uid in (series_uid, sop_instance_uid):
            if not is_uid(uid):
                raise UnidentifiableInstance("a UID that cannot be a file name")
        self.check_space()
        directory = (self.aside if aside else self.incoming) / series_uid
        head = file_head(sop_class_uid, sop_instance_uid, transfer_syntax_uid, sender)
        return Writer(self, directory, sop_instance_uid, head)

    def has_begun(self, series_uid: str) -> bool:
        """Whether something of a series is there, or on its way."""
        return (self.incoming / series_uid).exists()

    def room(self) -> float:
        """Free bytes as a multiple of the watermark: 1 is none."""
        status = os.statvfs(self.incoming)
        return status.f_bavail * status.f_frsize / max(self._min_free_bytes, 1)

    def check_space(self) -> None:
        """Raise SpoolFull below the watermark, and from then on until there is 5 % more than it."""
        status = os.statvfs(self.incoming)
        free = status.f_bavail * status.f_frsize
        with self._lock:
            was_full = self._full
            limit = self._min_free_bytes * (RECOVERY_FACTOR if was_full else 1)
            self._full = free < limit
            is_full = self._full
        if is_full != was_full:
            tell = logs.get()
            (tell.error if is_full else tell.info)("spool_full" if is_full else "spool_recovered", free_bytes=free)
        if is_full:
            raise SpoolFull(f"{free} bytes are free, fewer than {limit:.0f}")

    def draft_results(self, job_id: int, claim: int, files: Mapping[str, Buffer]) -> tuple[Path, Callable[[], None]]:
        """Make the files of a job's results durable: returns their place, results/<job id>, and what puts them there.

        claim (≥ 1): tells the drafts of two workers apart, of which one has lost the job. Results of earlier claims,
        which were never published, are replaced. Both steps raise SpoolFull or OSError.
        """
        final, draft = self._state.results_of(job_id), self._state.draft_of(job_id, claim)

        def place() -> None:
            try:
                shutil.rmtree(final, ignore_errors=True)
                draft.rename(final)
                self._sync(self.results)
            except OSError as error:
                raise _as_spool_full(error) from error

        for earlier in range(1, claim + 1):
            shutil.rmtree(self._state.draft_of(job_id, earlier), ignore_errors=True)
        try:
            durable.make_shared(draft)
            for name, data in files.items():
                if Path(name).name != name:
                    raise ValueError(f"a result file has a plain name, not {name!r}")
                durable.write_file(draft / name, [data])
            durable.sync_directory(draft)
        except OSError as error:
            shutil.rmtree(draft, ignore_errors=True)
            raise _as_spool_full(error) from error
        return final, place

    def make_series_directory(self, directory: Path) -> None:
        """Create the folder of a series if it is not there."""
        try:
            directory.mkdir(mode=durable.DIRECTORY_MODE)
        except FileExistsError:
            return
        with self._lock:
            self._named.discard(directory)

    def sync(self, directory: Path) -> None:
        """Make every name in the folder of a series durable, and the name of the folder itself."""
        self._sync(directory)
        with self._lock:
            self._recent.pop(directory, None)
            self._recent[directory] = None
            if len(self._recent) > MOST_RECENT:
                del self._recent[next(iter(self._recent))]
        if self._shared:  # another machine may have deleted it, and made it again, since
            self._sync(directory.parent)
        elif directory not in self._named:  # by us or by one who did not live to fsync it
            self._sync(directory.parent)
            with self._lock:
                if len(self._named) >= MOST_NAMED:
                    self._named.clear()
                self._named.add(directory)

    # --- reading ---------------------------------------------------------------------------------------------------

    def series(self) -> Iterator[str]:
        """The Series Instance UIDs at hand that may become a job."""
        with os.scandir(self.incoming) as entries:
            yield from (entry.name for entry in entries if is_uid(entry.name))

    def sop_instance_uids(self, series_uid: str) -> list[str]:
        """The SOP Instance UIDs of a series, from file names alone; empty when it is not there."""
        with suppress(FileNotFoundError), os.scandir(self.directory(series_uid)) as entries:
            names = [entry.name for entry in entries if entry.name.endswith(IMAGE)]
            return sorted(name.removesuffix(IMAGE) for name in names)
        return []

    def instances(self, series_uid: str) -> list[Instance]:
        """The instances of a series that can be read, by their file heads; others are logged and left out."""
        found = []
        for path in self.paths(series_uid):
            try:
                found.append(read_instance(path))
            except (UnidentifiableInstance, OSError) as error:
                logs.get().warning(
                    "series_unreadable", series=series_uid, instance=path.stem, reason=type(error).__name__
                )
        return found

    def paths(self, series_uid: str, sop_instance_uids: Collection[str] | None = None) -> list[Path]:
        """The files of a series, or of some of its instances."""
        directory = self.directory(series_uid)
        uids = self.sop_instance_uids(series_uid) if sop_instance_uids is None else sop_instance_uids
        return [directory / f"{uid}{IMAGE}" for uid in uids]

    def copies(self, series_uid: str, sop_instance_uid: str) -> list[Path]:
        """All files of a series under one SOP Instance UID, by arrival."""
        return _copies(self.directory(series_uid), sop_instance_uid)

    def names_from(self, series_uid: str, addresses: Collection[str]) -> set[str]:
        """The files of a series, without their suffix, that came from some addresses."""
        if not addresses:
            return set()
        return {path.stem for path in self.paths(series_uid) if sender_address(path) in addresses}

    def directory(self, series_uid: str) -> Path:
        """The folder of a series."""
        if not is_uid(series_uid):
            raise UnidentifiableInstance("a UID that cannot be a file name")
        return self.incoming / series_uid

    def find(self, sop_instance_uids: Collection[str]) -> dict[str, list[Path]]:
        """Where instances lie, set aside or not, all copies, by SOP Instance UID, in the folders written last."""
        wanted = {uid for uid in sop_instance_uids if is_uid(uid)}
        found: dict[str, list[Path]] = {}
        with self._lock:
            folders = list(reversed(self._recent))
        for folder in folders:
            here = wanted - found.keys()
            if len(here) > FEW_NAMES:  # one listing costs less than so many questions
                with suppress(OSError):
                    here = here & {path.name.removesuffix(IMAGE) for path in folder.iterdir()}
            for uid in here:
                if paths := _copies(folder, uid):
                    found[uid] = paths
        return found

    def folders(self) -> Iterator[tuple[tuple[str, str], int]]:
        """The folders of all series, set aside or not: ((folder of the state directory, series), modified in ns)."""
        for root in (self.incoming, self.aside):
            with os.scandir(root) as entries:
                for entry in entries:
                    if is_uid(entry.name):
                        with suppress(FileNotFoundError):
                            yield (root.name, entry.name), entry.stat().st_mtime_ns

    def uids_at(self, place: tuple[str, str]) -> list[str]:
        """The SOP Instance UIDs in one of `folders`; raises FileNotFoundError."""
        with os.scandir(self._state.root.joinpath(*place)) as entries:
            names = {
                entry.name.removesuffix(IMAGE).partition("~")[0] for entry in entries if entry.name.endswith(IMAGE)
            }
        return sorted(names)

    def copies_at(self, place: tuple[str, str], sop_instance_uid: str) -> list[Path]:
        """All files in one of `folders` under one SOP Instance UID, by arrival."""
        return _copies(self._state.root.joinpath(*place), sop_instance_uid)

    # --- what is not an image --------------------------------------------------------------------------------------

    def mark_refused(self, series_uid: str, sop_instance_uid: str, sender: Peer | None, for_space: bool) -> None:
        """Note beside the images of a series that one of it was not taken, so that a restart knows; as far as it can.

        On a full disk the note may stay empty: then it was for space, whoever sent it.
        """
        note = self.directory(series_uid) / f"{sop_instance_uid}{REFUSED}"
        with suppress(OSError):
            note.touch(durable.FILE_MODE)
            sent_by = [sender.ae_title, sender.address] if sender else None
            note.write_text(json.dumps([sent_by, for_space]), encoding="utf-8")

    def refused(self, series_uid: str) -> dict[str, tuple[Peer | None, bool]]:
        """What `mark_refused` noted of a series: SOP Instance UID → (sender, for space)."""
        found: dict[str, tuple[Peer | None, bool]] = {}
        for note in self.directory(series_uid).glob(f"*{REFUSED}"):
            try:
                sent_by, for_space = json.loads(note.read_bytes())
                found[note.stem] = (Peer(AETitle(sent_by[0]), sent_by[1]) if sent_by else None, bool(for_space))
            except (OSError, ValueError, TypeError):
                found[note.stem] = (None, True)
        return found

    def judging_failed(self, series_uid: str, whose: str) -> None:
        """Note that judging a series cost the process that did it. whose: the address of the images."""
        with suppress(OSError):
            note = self.directory(series_uid) / JUDGING
            with note.open("a", encoding="utf-8") as file:
                file.write(f"{whose}\n")
                file.flush()
                os.fsync(file.fileno())
            durable.sync_directory(note.parent)

    def failed_judgings(self, series_uid: str) -> Counter[str]:
        """What `judging_failed` noted: whose images → how often."""
        with suppress(OSError, ValueError):
            return Counter((self.directory(series_uid) / JUDGING).read_text(encoding="utf-8").splitlines())
        return Counter()

    def forget_failed_judgings(self, series_uid: str) -> None:
        """It succeeded."""
        with suppress(OSError):
            (self.directory(series_uid) / JUDGING).unlink()

    # --- house-keeping ---------------------------------------------------------------------------------------------

    def remove_stale_parts(self, older_than_s: float) -> int:
        """Remove what crashes left half written; returns how many files that were."""
        before = time.time() - older_than_s
        removed = 0
        for root in (self.incoming, self.aside):
            for part in root.glob(f"*/*{durable.PART}"):
                with suppress(OSError):  # gone, or not ours: what cannot be removed stays
                    if part.stat().st_mtime < before:
                        part.unlink()
                        removed += 1
        return removed


class Writer:
    """One instance on its way to the disk; `discard` is always safe, also after `commit`."""

    def __init__(self, spool: Spool, directory: Path, sop_instance_uid: str, head: bytes) -> None:
        self._spool = spool
        self._directory = directory
        self._final = directory / f"{sop_instance_uid}{IMAGE}"
        self._head: bytes | None = head
        self._part: Path | None = None
        self._descriptor = -1

    def write(self, parts: Sequence[Buffer]) -> None:
        """Append to the dataset. Raises SpoolFull or OSError, then everything of it is gone."""
        try:
            if self._head is not None:
                self._open()
                parts, self._head = [self._head, *parts], None
            else:
                self._spool.check_space()
            for first in range(0, len(parts), MOST_BUFFERS):
                durable.write_all(self._descriptor, parts[first : first + MOST_BUFFERS])
        except OSError as error:
            self.discard()
            raise _as_spool_full(error) from error
        except SpoolFull:
            self.discard()
            raise

    def commit(self) -> Path:
        """Make it durable under its name. Raises SpoolFull, OSError, or UnidentifiableInstance as `Spool.put` does."""
        assert self._part is not None, "nothing was written"  # noqa: S101
        try:
            os.fdatasync(self._descriptor)
            self._final = self._name_of_its_own()
            self._part.unlink()
            self._part = None
            self._spool.sync(self._directory)
        except OSError as error:
            raise _as_spool_full(error) from error
        finally:
            self.discard()
        return self._final

    def discard(self) -> None:
        """Remove what is not committed."""
        self._close()
        if self._part is not None:
            self._part.unlink(missing_ok=True)
            self._part = None

    def _open(self) -> None:
        token = f"{self._spool.token}-{threading.get_native_id()}"
        part = self._directory / f"{self._final.stem}.{token}{durable.PART}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._descriptor = os.open(part, flags, durable.FILE_MODE)
        except FileNotFoundError:  # a new series, or one that retention has just taken away
            self._spool.make_series_directory(self._directory)
            self._descriptor = os.open(part, flags, durable.FILE_MODE)
        self._part = part

    def _name_of_its_own(self) -> Path:
        """Link the file under its name, or find the same dataset there; a different one leaves it the next name."""
        assert self._part is not None  # noqa: S101
        for copy in range(1, MOST_COPIES + 1):
            final = self._final if copy == 1 else self._final.with_name(f"{self._final.stem}~{copy}{IMAGE}")
            try:
                final.hardlink_to(self._part)  # a rename that never replaces
            except FileExistsError:
                if _same_dataset(self._part, final):
                    return final
                continue
            if copy > 1:
                logs.get().warning("duplicate_differs", series=self._directory.name, instance=self._final.stem)
            return final
        raise UnidentifiableInstance(f"{MOST_COPIES} different images bear this SOP Instance UID already")

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _copies(folder: Path, sop_instance_uid: str) -> list[Path]:
    """All files in a folder under one SOP Instance UID, by arrival."""
    first = folder / f"{sop_instance_uid}{IMAGE}"
    if not first.exists():
        return []
    later = (folder / f"{sop_instance_uid}~{copy}{IMAGE}" for copy in range(2, MOST_COPIES + 1))
    return [first, *filter(Path.exists, later)]


def _same_dataset(one: Path, other: Path) -> bool:
    """Whether two files hold the same bytes behind their file meta information, which names the sender."""
    with one.open("rb") as first, other.open("rb") as second:
        try:
            first.seek(dataset_offset(one))
            second.seek(dataset_offset(other))
        except UnidentifiableInstance:  # damaged on disk: not the same
            return False
        if os.fstat(first.fileno()).st_size - first.tell() != os.fstat(second.fileno()).st_size - second.tell():
            return False
        while piece := first.read(COMPARED_AT_A_TIME):
            if piece != second.read(COMPARED_AT_A_TIME):
                return False
    return True


# --- the system calls ----------------------------------------------------------------------------------------------


def _as_spool_full(error: OSError) -> Exception:
    """The error to raise: SpoolFull when it says that there is no space."""
    return SpoolFull(os.strerror(error.errno)) if error.errno in OUT_OF_SPACE else error
