"""Which file systems several machines may share a state directory on."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ich_node.domain.errors import IchNodeError
from ich_node.store import shared_disk
from ich_node.store.ledger.jobs import JobStore
from ich_node.store.shared_disk import Mount, mount_of, trouble, unsafe

NFS = "rw,vers=4.2,hard,proto=tcp,lookupcache=positive,acdirmin=1,acdirmax=1,local_lock=none"
MOUNTINFO = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 22 0:40 / /srv rw,relatime - tmpfs tmpfs rw
41 40 0:41 / /srv/with\\040blank rw,relatime - nfs4 server:/x rw,hard
42 22 0:42 / /over rw - ext4 /dev/sdb rw
44 22 0:44 / /größe rw - nfs4 server:/y rw,soft
43 42 0:43 / /over rw - overlay overlay rw,lowerdir=/a:/b
"""


def test_the_mount_of_a_folder_is_the_longest_and_the_last(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(MOUNTINFO)
    expected = {"/var": "ext4", "/srv/x": "tmpfs", "/srv/with blank/y": "nfs4", "/over/z": "overlay", "/größe": "nfs4"}
    assert {path: mount_of(Path(path), table).kind for path in expected} == expected


@pytest.mark.parametrize(
    ("kind", "options", "why"),
    [
        ("nfs4", NFS, ""),
        ("nfs4", NFS.replace("acdirmin=1,acdirmax=1", "noac"), ""),
        ("nfs4", NFS.replace("positive", "none"), ""),
        ("nfs4", NFS.replace("hard", "soft"), "hard"),
        ("nfs4", NFS.replace("hard", "softerr"), "hard"),
        ("nfs4", NFS.replace("local_lock=none", "local_lock=flock"), "local_lock"),
        ("nfs4", NFS.replace("lookupcache=positive,", ""), "lookupcache"),
        ("nfs4", NFS.replace("acdirmin=1,acdirmax=1", "relatime"), "acdirmax"),
        ("nfs4", NFS.replace("acdirmax=1", "acdirmax=3"), "acdirmax"),
        ("nfs", NFS.replace("4.2", "3"), "not known"),
        ("ceph", "rw,relatime,name=ich,secret=<hidden>,acl", ""),
        ("ceph", "rw,relatime,name=ich,nowsync", "nowsync"),
        ("lustre", "rw,flock,lazystatfs", ""),
        ("lustre", "rw,localflock", "flock"),
        ("lustre", "rw,lazystatfs", "flock"),
        ("ext4", "rw,relatime", ""),
        ("ext4", "rw,nobarrier", "barriers"),
        *((kind, "rw", "not known") for kind in ("cifs", "smb3", "overlay", "tmpfs", "9p", "fuse.sshfs", "fuse.s3fs")),
    ],
)
def test_what_is_not_known_to_be_safe_is_refused(kind: str, options: str, why: str) -> None:
    found = unsafe(Mount(kind, {name: value for name, _, value in (o.partition("=") for o in options.split(","))}))
    assert (why in found) if why else found == ""


def test_a_disk_does_what_the_spool_relies_on_and_nothing_stays_behind(tmp_path: Path) -> None:
    assert trouble(tmp_path) == ""
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_can_not_be_written_is_trouble(tmp_path: Path) -> None:
    assert "Not a directory" in trouble(tmp_path / "file" / "x") or "No such file" in trouble(tmp_path / "no" / "x")


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ("hardlink_to", "link replaces"),
        ("flock", "two may hold"),
        ("fsync", "EINVAL"),
        ("replace", "rename"),
    ],
)
def test_a_disk_that_does_less_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, why: str
) -> None:
    def link_over(self: Path, target: Path) -> None:
        self.unlink(missing_ok=True)
        os.link(target, self)

    def no_fsync(_descriptor: int) -> None:
        raise OSError(22, "Invalid argument")

    def copy_over(self: Path, target: Path) -> None:
        target.write_bytes(self.read_bytes())  # what a file system without atomic renames comes down to
        self.unlink()

    if broken == "hardlink_to":
        monkeypatch.setattr(Path, "hardlink_to", link_over)
    elif broken == "flock":
        monkeypatch.setattr(shared_disk.fcntl, "flock", lambda *_: None)
    elif broken == "fsync":
        monkeypatch.setattr(os, "fsync", no_fsync)
    else:
        monkeypatch.setattr(Path, "replace", copy_over)
    assert why in trouble(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
def test_a_mounted_file_system_is_told_by_its_kind(tmp_path: Path) -> None:
    memory, image, disk = tmp_path / "memory", tmp_path / "image", tmp_path / "disk"
    memory.mkdir()
    disk.mkdir()
    with image.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    mounted = []
    try:
        for command in (["-t", "tmpfs", "x", str(memory)], ["-o", "loop,nobarrier", str(image), str(disk)]):
            if subprocess.run(["mount", *command], check=False, capture_output=True).returncode:
                pytest.skip("mounting is not allowed here")
            mounted.append(command[-1])
        assert "tmpfs is not known" in unsafe(mount_of(memory / "state"))
        assert "barriers" in unsafe(mount_of(disk))
        assert trouble(disk) == ""
    finally:
        for point in mounted:
            subprocess.run(["umount", point], check=True)


def test_a_folder_that_is_not_that_of_the_ledger_is_refused(tmp_path: Path, ledger_url: str | None) -> None:
    shared, empty = tmp_path / "shared", tmp_path / "not-mounted"
    ledger = JobStore.open(shared, url=ledger_url)
    empty.mkdir()
    shared_disk.require(shared, ledger)
    shared_disk.require(shared, ledger)
    with pytest.raises(IchNodeError, match="is the file system mounted"):
        shared_disk.require(empty, ledger)
    assert list(empty.iterdir()) == []
    (empty / shared_disk.STATE_MARK).write_text("another")
    with pytest.raises(IchNodeError, match="is the file system mounted"):
        shared_disk.require(empty, ledger)
    ledger.close()
