"""The board with 2,000 studies and 50 open pages: server time of the list, news after a publish, memory over time."""

from __future__ import annotations

import http.client
import json
import re
import socket
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml
from starlette.testclient import TestClient

from ich_node.board import people, role
from ich_node.board.app import build
from ich_node.store.ledger.jobs import JobStore
from tests.ledger_builder import configuration, destination, publish_job, write_instance
from tests.ports import free_port
from tests.unit.board.test_app import result

pytestmark = pytest.mark.timeout(1800)  # 2,000 studies are published first
STUDIES, PAGES, NEWS = 2000, 50, 20
KINDS = [("STAT", ("any", "subdural")), ("HIGH", ("any",)), ("ROUTINE", ()), (None, ())]
CT = "1.2.840.10008.5.1.4.1.1.2"


def answer(store: JobStore, folder: Path, number: int, priority: str | None, present: tuple[str, ...]) -> None:
    """A published study with its first image."""
    uid = f"1.2.3.{number}"
    job, _ = publish_job(store, folder, ["pacs", "archive"], series_uid=uid, priority=priority)
    told = result(priority, present, None if priority else "a sharp kernel")
    (folder / "results" / str(job.id) / "result.json").write_text(json.dumps(told))
    (folder / "incoming" / uid).mkdir(parents=True, exist_ok=True)
    write_instance(folder / "incoming" / uid / f"{job.sop_instance_uids[0]}.dcm", CT, job.sop_instance_uids[0])


@pytest.fixture(scope="module")
def state(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("board")
    store = JobStore.open(folder)
    for number in range(STUDIES):
        answer(store, folder, number, *KINDS[number % len(KINDS)])
    store.close()
    return folder


@pytest.fixture(scope="module")
def users(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("users") / "users"
    file.write_text(people.line_for("ada", "operator", "pw"))
    return file


def test_the_list_of_2000_studies(state, users):
    config = configuration(state, destination("pacs", 1))
    store = JobStore.open(state)
    board = role.make(config, store)
    board.users = people.Users(users)
    page = TestClient(build(board))
    page.post("/sign-in", data={"name": "ada", "password": "pw"})
    for path in ("/?show=all", "/", "/?q=nobody", "/operations", "/metrics"):
        times = []
        for _ in range(6):
            began = time.process_time()
            answered = page.get(path)
            times.append(time.process_time() - began)
        first, *rest = (seconds * 1000 for seconds in times)
        size = len(answered.content) // 1024
        print(f"\n{path}: {first:.0f} ms CPU the first time, then {statistics.median(rest):.0f} ms, {size} KB", end="")
    began = time.process_time()
    answer(store, state, STUDIES, "STAT", ("any",))
    made = time.process_time() - began
    began = time.process_time()
    board.studies.refresh()
    print(
        f"\nnews of one study: {(time.process_time() - began) * 1000:.0f} ms CPU (publishing it {made * 1000:.0f} ms)"
    )
    store.close()


def listen(port: int, heard: list[float], ready: threading.Barrier) -> None:
    """An open page: the moments at which it had the list with the new STAT."""
    with socket.create_connection(("127.0.0.1", port)) as line:
        line.sendall(b"GET /events HTTP/1.1\r\nHost: board\r\n\r\n")
        line.recv(4096)
        ready.wait()
        while data := line.recv(65536):
            if b'"stat": [' in data and b'"stat": []' not in data:
                asking = http.client.HTTPConnection("127.0.0.1", port)
                asking.request("GET", "/rows?show=open")
                asking.getresponse().read()
                asking.close()
                heard.append(time.time())


def memory_kb(pid: int) -> int:
    """Resident memory, proc(5)."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])


def test_fifty_open_pages(state, tmp_path):
    port = free_port()
    config = tmp_path / "node.yaml"
    config.write_text(yaml.safe_dump({"store": {"state_dir": str(state)}, "board": {"port": port}}))
    command = [sys.executable, "-m", "ich_node", "board", "--config", str(config)]
    board = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.1)
        heard: list[list[float]] = [[] for _ in range(PAGES)]
        ready = threading.Barrier(PAGES + 1)
        for one in heard:
            threading.Thread(target=listen, args=(port, one, ready), daemon=True).start()
        ready.wait()
        store, delays, memory = JobStore.open(state), [], [memory_kb(board.pid)]
        for number in range(NEWS):
            answer(store, state, STUDIES + 10 + number, "STAT", ("any",))
            published = time.time()
            time.sleep(3)
            delays += [min((at for at in one if at >= published - 0.3), default=9e9) - published for one in heard]
            for one in heard:
                one.clear()
            memory.append(memory_kb(board.pid))
        store.close()
        slow = sorted(delays)[-len(delays) // 20]
        middle = statistics.median(delays)
        print(f"\na new STAT on {PAGES} pages: {middle:.2f} s, 95 % {slow:.2f} s, longest {max(delays):.2f} s")
        print(f"memory of the board: {' '.join(f'{kb / 1024:.0f}' for kb in memory)} MB")
    finally:
        board.terminate()
        board.wait(20)
