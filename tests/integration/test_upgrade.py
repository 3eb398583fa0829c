"""The version before and this one, side by side on one ledger: neither loses, doubles or refuses what the other did."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from ich_node.store.ledger.jobs import JobStore

ROOT = Path(__file__).resolve().parents[2]
BEFORE = "c6d0788c56bd60f4de98d3dc29200068420c8faa"
JOBS = 16
ROLE = """
import json, sys, time
from pathlib import Path
from ich_node.domain.dicom import Instance, Series
from ich_node.domain.errors import StoreError
from ich_node.domain.ledger import Owed, ResultInstance, Sent
from ich_node.store.ledger.jobs import JobStore

name, root, url, jobs = sys.argv[1], Path(sys.argv[2]), sys.argv[3] or None, int(sys.argv[4])
done, turns = [], 0
(root / f"{name}.up").touch()
while len(list(root.glob("*.up"))) < 2:  # the other one has started, too
    time.sleep(0.01)
while turns < jobs * 3:
    turns += 1
    store = JobStore.open(root, url=url)  # as a role that was started again: the schema is looked at each time
    if turns <= jobs:
        uid = f"1.{turns}"  # the other one makes the same
        store.enqueue(Series("1.2", uid, (Instance("1.2", uid, "1.1", f"{uid}.1", "1.2.840", Path("x")),)))
    if len(done) < jobs * 3 // 4 and (job := store.claim(name)):  # the slower one is left some
        result = ResultInstance("1.1", f"{job.series_uid}.9", root / "x")
        store.publish(job, [Owed(result, "pacs")], priority="STAT")
        done.append(job.id)
    store.sent_all([Sent(item, "0x0000", "") for item in store.due("pacs", 3)])
    counts = store.counts()
    store.close()
    if counts == {"done": jobs}:
        break
print(json.dumps({"done": done, "counts": counts}))
"""


@pytest.fixture(scope="session")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code of the version before, from this repository's history."""
    folder = tmp_path_factory.mktemp("before")
    packed = subprocess.run(["git", "-C", str(ROOT), "archive", BEFORE, "ich_node"], check=False, capture_output=True)
    if packed.returncode:
        pytest.skip("needs the history of the repository: this copy has none")
    subprocess.run(["tar", "-x", "-C", str(folder)], input=packed.stdout, check=True)
    return folder


LOOK = """
import sys
from pathlib import Path
from ich_node.store.ledger.jobs import JobStore
store = JobStore.open(Path(sys.argv[1]), url=sys.argv[2] or None)
print(store.counts())
store.close()
"""


def start(code: Path, source: str, *words: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(code)}
    return subprocess.Popen([sys.executable, "-c", source, *words], stdout=subprocess.PIPE, env=environment, cwd=code)


def said(process: subprocess.Popen[bytes]) -> bytes:
    """What it prints, once it has ended well."""
    out = process.communicate(timeout=240)[0]
    assert process.returncode == 0
    return out.strip().splitlines()[-1]


@pytest.mark.parametrize("first", ["old", "new"])
def test_old_and_new_work_side_by_side_on_one_ledger(tmp_path, ledger_url, before: Path, first: str) -> None:
    """Whoever made it: this version adds what it needs, and the one before goes on, also when it is started again."""
    where = str(tmp_path), ledger_url or ""
    assert said(start(before if first == "old" else ROOT, LOOK, *where)) == b"{}"
    roles = [start(code, ROLE, name, *where, str(JOBS)) for code, name in ((before, "old"), (ROOT, "new"))]
    told = [json.loads(said(role)) for role in roles]
    assert all(each["done"] for each in told), f"both had work: {told}"
    assert max(Counter([job for each in told for job in each["done"]]).values()) == 1
    store = JobStore.open(tmp_path, url=ledger_url)
    assert store.counts() == {"done": JOBS}
    store.close()
