"""The spool: what is on the disk when put() returns, and what never is."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydicom import Dataset, dcmread
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from structlog.testing import capture_logs

from ich_node.dicom.part10 import read_instance
from ich_node.domain.dicom import AETitle, Peer
from ich_node.domain.errors import SpoolFull, UnidentifiableInstance
from ich_node.store import spool as spool_module
from ich_node.store.group_commit import GroupCommit
from ich_node.store.spool import MOST_COPIES, Spool

CT, EXPLICIT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"


def dataset(pixels: bytes = b"\1\2\3\4") -> bytes:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.StudyInstanceUID, ds.SeriesInstanceUID = CT, "1.2.3.4", "1.2", "1.2.3"
    ds.add_new(0x7FE00010, "OW", pixels)
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, ds)
    return buffer.getvalue()


def put(
    spool: Spool,
    uid: str = "1.2.3.4",
    series: str = "1.2.3",
    aside: bool = False,
    sender: Peer | None = None,
    **changes: object,
) -> Path:
    return spool.put(
        series_uid=series,
        sop_instance_uid=uid,
        sop_class_uid=CT,
        transfer_syntax_uid=EXPLICIT,
        parts=[dataset(**changes)],  # type: ignore[arg-type]
        aside=aside,
        sender=sender,
    )


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path, min_free_bytes=1)


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_an_instance_lies_under_its_series_as_a_dicom_file(spool: Spool, tmp_path: Path) -> None:
    path = put(spool)
    assert path == tmp_path / "incoming/1.2.3/1.2.3.4.dcm"
    read = dcmread(path)
    assert read.file_meta.MediaStorageSOPInstanceUID == read.SOPInstanceUID == "1.2.3.4"
    assert read.file_meta.TransferSyntaxUID == EXPLICIT
    assert path.read_bytes().endswith(dataset())


def test_many_small_parts_are_written_in_order(spool: Spool) -> None:
    data = dataset(pixels=bytes(range(256)) * 8)
    path = spool.put(
        series_uid="1.2.3",
        sop_instance_uid="1.2.3.4",
        sop_class_uid=CT,
        transfer_syntax_uid=EXPLICIT,
        parts=[memoryview(data)[i : i + 1] for i in range(len(data))],
    )
    assert path.read_bytes().endswith(data)


def test_objects_set_aside_are_no_series(spool: Spool, tmp_path: Path) -> None:
    assert put(spool, aside=True) == tmp_path / "set_aside/1.2.3/1.2.3.4.dcm"
    assert list(spool.series()) == []


def test_nothing_is_readable_by_others(spool: Spool, tmp_path: Path) -> None:
    path = put(spool)
    assert path.stat().st_mode & 0o777 == 0o640
    assert path.parent.stat().st_mode & 0o777 == 0o750


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The order of the system calls that make a file durable."""
    seen: list[str] = []
    real_fsync, real_fdatasync, real_link = os.fsync, os.fdatasync, os.link

    def fsync(descriptor: int) -> None:
        seen.append("fsync " + Path(f"/proc/self/fd/{descriptor}").readlink().name)
        real_fsync(descriptor)

    def fdatasync(descriptor: int) -> None:
        seen.append("fdatasync " + Path(f"/proc/self/fd/{descriptor}").readlink().suffix)
        real_fdatasync(descriptor)

    def link(source: Path, target: Path) -> None:
        seen.append("link " + Path(target).name)
        real_link(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "fdatasync", fdatasync)
    monkeypatch.setattr(os, "link", link)
    return seen


def test_the_order_of_durability_is_data_name_directory(spool: Spool, calls: list[str]) -> None:
    put(spool)
    assert calls == ["fdatasync .part", "link 1.2.3.4.dcm", "fsync 1.2.3", "fsync incoming"]


def test_the_second_instance_of_a_series_costs_one_directory_fsync(spool: Spool, calls: list[str]) -> None:
    put(spool)
    calls.clear()
    put(spool, "1.2.3.5")
    assert calls == ["fdatasync .part", "link 1.2.3.5.dcm", "fsync 1.2.3"]


def test_a_folder_that_was_there_at_the_start_is_made_durable_too(tmp_path: Path, calls: list[str]) -> None:
    put(Spool(tmp_path, 1))
    calls.clear()
    put(Spool(tmp_path, 1), "1.2.3.5")
    assert calls[-2:] == ["fsync 1.2.3", "fsync incoming"]


def test_a_duplicate_is_as_durable_as_the_first_copy(tmp_path: Path, calls: list[str]) -> None:
    put(Spool(tmp_path, 1))
    calls.clear()
    put(Spool(tmp_path, 1))
    assert calls[-2:] == ["fsync 1.2.3", "fsync incoming"]


def test_a_duplicate_changes_nothing(spool: Spool, tmp_path: Path) -> None:
    path = put(spool)
    before = path.stat()
    with capture_logs() as logged:
        assert put(spool) == path
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert files(tmp_path) == ["incoming/1.2.3/1.2.3.4.dcm"]
    assert logged == []


def test_of_two_different_images_under_one_uid_both_are_kept_and_that_is_told(spool: Spool, tmp_path: Path) -> None:
    path = put(spool)
    first = path.read_bytes()
    with capture_logs() as logged:
        other = put(spool, pixels=b"\5\6\7\x08")
    assert path.read_bytes() == first
    assert other.read_bytes().endswith(dataset(pixels=b"\5\6\7\x08"))
    assert files(tmp_path) == ["incoming/1.2.3/1.2.3.4.dcm", "incoming/1.2.3/1.2.3.4~2.dcm"]
    assert [line["event"] for line in logged] == ["duplicate_differs"]
    assert put(spool, pixels=b"\5\6\7\x08") == other, "the second copy of the second image"
    assert spool.sop_instance_uids("1.2.3") == ["1.2.3.4", "1.2.3.4~2"]


def test_what_cannot_be_kept_is_never_acknowledged(spool: Spool) -> None:
    for number in range(MOST_COPIES):
        put(spool, pixels=bytes([number]) * 4)
    with pytest.raises(UnidentifiableInstance, match="different images"):
        put(spool, pixels=b"more")
    assert len(list(spool.directory("1.2.3").iterdir())) == MOST_COPIES


def test_the_file_names_its_sender(spool: Spool) -> None:
    scanner = Peer(AETitle("CT1"), "fd00::7")
    path = put(spool, sender=scanner)
    assert read_instance(path).sender == scanner
    assert dcmread(path).file_meta.SourceApplicationEntityTitle == "CT1"
    assert put(spool, sender=Peer(AETitle("PACS"), "10.0.0.1")) == path, "the same image, whoever sends it"


def test_copies_that_arrive_together_leave_one_whole_file(spool: Spool, tmp_path: Path) -> None:
    threads = [threading.Thread(target=put, args=(spool,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert files(tmp_path) == ["incoming/1.2.3/1.2.3.4.dcm"]
    assert (tmp_path / "incoming/1.2.3/1.2.3.4.dcm").read_bytes().endswith(dataset())


BAD_UIDS = [
    "",
    ".",
    "..",
    "../1",
    "1/2",
    "/etc",
    "1..2",
    ".1",
    "1.",
    "1.2\n",
    "1.2\0",
    "1" * 65,
    "１.2",
    "1.2.dcm",
    "a",
]


@pytest.mark.parametrize("uid", BAD_UIDS)
def test_a_uid_that_is_none_never_becomes_a_path(spool: Spool, tmp_path: Path, uid: str) -> None:
    for names in ({"uid": uid}, {"series": uid}):
        with pytest.raises(UnidentifiableInstance):
            put(spool, **names)
    with pytest.raises(UnidentifiableInstance):
        spool.directory(uid)
    assert files(tmp_path) == []


def free(monkeypatch: pytest.MonkeyPatch, amount: int) -> None:
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_bavail=amount, f_frsize=1))


def test_below_the_watermark_nothing_is_taken(spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = Spool(tmp_path, min_free_bytes=1000)
    free(monkeypatch, 999)
    with pytest.raises(SpoolFull):
        put(full)
    assert files(tmp_path) == []


def test_recovery_takes_a_little_more_than_the_watermark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path, min_free_bytes=1000)
    outcomes = []
    with capture_logs() as logged:
        for amount in (1000, 999, 1000, 1049, 1050, 1000):
            free(monkeypatch, amount)
            try:
                spool.check_space()
                outcomes.append("taken")
            except SpoolFull:
                outcomes.append("full")
    assert outcomes == ["taken", "full", "full", "full", "taken", "taken"]
    assert [line["event"] for line in logged] == ["spool_full", "spool_recovered"]


@pytest.mark.parametrize("call", ["writev", "fdatasync", "link", "fsync"])
@pytest.mark.parametrize(
    ("number", "raised"), [(errno.ENOSPC, SpoolFull), (errno.EDQUOT, SpoolFull), (errno.EIO, OSError)]
)
def test_a_failing_system_call_leaves_no_part_behind(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, raised: type[Exception]
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as broken:
        broken.setattr(os, call, fail)
        with pytest.raises(raised):
            put(spool)
    assert not [name for name in files(tmp_path) if name.endswith(".part")]
    assert put(spool).exists()


def test_a_partial_write_is_continued(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.writev
    monkeypatch.setattr(os, "writev", lambda fd, views: real(fd, [views[0][:7]]))
    assert put(spool).read_bytes().endswith(dataset())


def test_a_large_instance_is_refused_as_soon_as_space_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path, min_free_bytes=1000)
    free(monkeypatch, 2000)
    writer = spool.writer(
        series_uid="1.2.3", sop_instance_uid="1.2.3.4", sop_class_uid=CT, transfer_syntax_uid=EXPLICIT
    )
    writer.write([b"first"])
    free(monkeypatch, 500)
    with pytest.raises(SpoolFull):
        writer.write([b"second"])
    assert files(tmp_path) == []


def test_a_discarded_instance_leaves_nothing(spool: Spool, tmp_path: Path) -> None:
    writer = spool.writer(
        series_uid="1.2.3", sop_instance_uid="1.2.3.4", sop_class_uid=CT, transfer_syntax_uid=EXPLICIT
    )
    writer.write([b"half"])
    writer.discard()
    writer.discard()
    assert files(tmp_path) == []


def test_a_series_that_retention_has_taken_away_can_come_again(spool: Spool, tmp_path: Path) -> None:
    path = put(spool)
    path.parent.rename(tmp_path / "trash")
    assert put(spool).exists()


def test_instances_and_names_are_read_back(spool: Spool) -> None:
    put(spool, "1.2.3.5")
    path = put(spool, "1.2.3.4")
    (path.parent / "1.2.3.6.7-8.part").write_bytes(b"half")
    assert list(spool.series()) == ["1.2.3"]
    assert spool.sop_instance_uids("1.2.3") == ["1.2.3.4", "1.2.3.5"]
    first, second = spool.instances("1.2.3")
    assert (first.study_uid, first.series_uid, first.sop_class_uid) == ("1.2", "1.2.3", CT)
    assert (first.sop_instance_uid, first.transfer_syntax_uid, first.path) == ("1.2.3.4", EXPLICIT, path)
    assert second.sop_instance_uid == "1.2.3.5"


def test_an_unreadable_file_does_not_hide_the_others(spool: Spool) -> None:
    path = put(spool)
    (path.parent / "1.2.3.9.dcm").write_bytes(b"not DICOM")
    with capture_logs() as logged:
        assert [instance.sop_instance_uid for instance in spool.instances("1.2.3")] == ["1.2.3.4"]
    assert [line["event"] for line in logged] == ["series_unreadable"]


def test_a_series_that_is_not_there_is_empty(spool: Spool) -> None:
    assert spool.sop_instance_uids("9.9") == []
    assert spool.instances("9.9") == []


def test_instances_are_found_wherever_they_lie(spool: Spool) -> None:
    first, second = put(spool), put(spool, "1.9.1", "1.9", aside=True)
    assert spool.find(["1.2.3.4", "1.9.1", "5.5", "../1"]) == {"1.2.3.4": [first], "1.9.1": [second]}
    assert {place for place, _ in spool.folders()} == {("incoming", "1.2.3"), ("set_aside", "1.9")}
    assert spool.uids_at(("set_aside", "1.9")) == ["1.9.1"]
    assert spool.copies_at(("incoming", "1.2.3"), "1.2.3.4") == [first]


def test_only_old_parts_are_removed(spool: Spool, tmp_path: Path) -> None:
    path = put(spool)
    old, new = path.parent / "1.5.1-1.part", path.parent / "1.6.1-1.part"
    old.touch()
    os.utime(old, (1, 1))
    new.touch()
    stuck = path.parent / "1.4.1-1.part"  # cannot be removed, and comes first
    stuck.mkdir()
    os.utime(stuck, (1, 1))
    assert spool.remove_stale_parts(older_than_s=3600) == 1
    assert files(tmp_path) == ["incoming/1.2.3/1.2.3.4.dcm", "incoming/1.2.3/1.6.1-1.part"]


def results(spool: Spool, contents: dict[str, bytes], claim: int = 1) -> Path:
    directory, place = spool.draft_results(7, claim, contents)
    place()
    return directory


def test_results_appear_whole_and_replace_an_earlier_attempt(spool: Spool) -> None:
    results(spool, {"old.dcm": b"old"})
    directory = results(spool, {"a.dcm": b"a", "result.json": b"{}"}, claim=2)
    assert directory == spool.results / "7"
    assert sorted(path.name for path in directory.iterdir()) == ["a.dcm", "result.json"]


def test_results_on_a_full_disk_leave_the_earlier_ones(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    results(spool, {"old.dcm": b"old"})

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "writev", fail)
    with pytest.raises(SpoolFull):
        results(spool, {"a.dcm": b"a"}, claim=2)
    assert files(spool.results) == ["7/old.dcm"]


def test_a_result_stays_in_its_folder(spool: Spool) -> None:
    with pytest.raises(ValueError, match="plain name"):
        results(spool, {"../a.dcm": b"a"})


def test_a_draft_is_no_result_until_it_is_put_in_its_place(spool: Spool) -> None:
    _, place = spool.draft_results(7, 2, {"a.dcm": b"a"})
    assert files(spool.results) == ["7.2.part/a.dcm"]
    place()
    assert files(spool.results) == ["7/a.dcm"]


def test_the_drafts_of_earlier_claims_do_not_pile_up(spool: Spool) -> None:
    for claim in (1, 2, 3):
        spool.draft_results(7, claim, {"a.dcm": b"a"})
    assert files(spool.results) == ["7.3.part/a.dcm"]


@pytest.fixture
def slow_fsync(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, list[Path]]]:
    gate, served = threading.Event(), []

    def fsync(directory: Path) -> None:
        served.append(directory)
        assert gate.wait(10)

    monkeypatch.setattr(spool_module.durable, "sync_directory", fsync)
    yield gate, served
    gate.set()


def test_those_who_wait_for_a_directory_share_one_fsync(
    slow_fsync: tuple[threading.Event, list[Path]], tmp_path: Path, wait_for: Callable[..., None]
) -> None:
    gate, served = slow_fsync
    commit = GroupCommit()
    threads = [threading.Thread(target=commit, args=(tmp_path,)) for _ in range(9)]
    for thread in threads:
        thread.start()
    wait_for(lambda: commit.waiting == 8)
    gate.set()
    for thread in threads:
        thread.join()
    assert served == [tmp_path, tmp_path]


def test_all_who_share_a_failed_fsync_learn_of_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        GroupCommit()(tmp_path / "gone")
