"""How a cluster grows: studies with 1, 2, 4 and 8 workers, and how many jobs PostgreSQL bears (`make bench`).

Prints figures and judges none. The first part runs real workers on a real tritonserver whose model is a timed stand-in,
so that a machine with two cores shows what eight GPUs would do. The second part leaves the images away: processes take
jobs through the ledger, from the series to its delivery, as fast as it goes.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from pydicom import dcmread

from ich_node.domain.dicom import Instance, Series
from ich_node.domain.ledger import Owed, ResultInstance, Sent
from ich_node.infer import bundle
from ich_node.infer.engine import triton
from ich_node.runtime.config import default_bundle
from ich_node.store.ledger.jobs import JobStore
from tests import postgresql, triton_server
from tests.crash.scanner import Patients
from tests.crash.supervised import Supervised
from tests.ports import free_port

WORKERS = (1, 2, 4, 8)
MODEL_S = float(os.environ.get("ICH_NODE_MODEL_S", "15"))
"""What the stand-in takes for a study: so long that eight workers' own work fits into two cores meanwhile."""
JOBS_EACH = 6  # a worker does so many, so that the last ones, which end one by one, weigh little
RESULTS = 6  # of a job: pictures, two reports
IMAGES = 32
CLERKS = (1, 2, 4, 8, 16)
FOR_S = 10.0
DURABLE = ("-c", "shared_buffers=128MB", "-c", "max_connections=100")
MODEL = """
import sys
import time

sys.path[:0] = PACKAGES
import numpy as np
import triton_python_backend_utils as triton

LOGITS, PEAKS = np.array(LOGITS_, np.float32), np.array(PEAKS_, np.float32)  # of the self-test


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(triton.get_input_tensor_by_name(request, "hu").shape()) for request in requests]

    def answer(self, shape):
        count, rows, columns = shape
        logits = np.full((count, LOGITS.shape[1]), -6, np.float32)
        cam = np.full((count, LOGITS.shape[1], rows // 16, columns // 16), -6, np.float32)
        if count == len(LOGITS):  # the self-test
            logits, cam = LOGITS.copy(), np.float32(PEAKS[:, :, None, None]) + 0 * cam
        else:
            time.sleep(SECONDS)
        arrays = {"logits": logits, "cam": cam, "features": np.zeros((count, 4), np.float32)}
        tensors = [triton.Tensor.from_dlpack(name, np.ascontiguousarray(array)) for name, array in arrays.items()]
        return triton.InferenceResponse(output_tensors=tensors)
"""


# --- workers ----------------------------------------------------------------------------------------------------------


@contextmanager
def stand_in(folder: Path) -> Iterator[str]:
    """A tritonserver with as many instances of the timed model as there are workers; its address."""
    model = bundle.load(default_bundle())
    triton.write_repository(model, folder)
    place = folder / triton.model_name(model)
    text = (place / "config.pbtxt").read_text().replace('platform: "onnxruntime_onnx"', 'backend: "python"')
    text = re.sub(r"^(model_warmup|dynamic_batching).*$", "", text, flags=re.M)
    text = text.replace("count: 1 kind: KIND_AUTO", f"count: {max(WORKERS)} kind: KIND_CPU")
    (place / "config.pbtxt").write_text(text)
    test = model.manifest.self_test
    packages = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    said = {"PACKAGES": packages, "LOGITS_": test.logits, "PEAKS_": test.cam_peak, "SECONDS": MODEL_S}
    code = MODEL
    for name, value in said.items():
        code = code.replace(name, repr(value))
    (place / "1" / "model.py").write_text(code)
    port = free_port()
    command, environment = triton_server.command(folder, "127.0.0.1", port), triton_server.environment()
    with (folder / "log").open("wb") as log, subprocess.Popen(command, env=environment, stderr=log) as server:
        try:
            while "Started GRPCInferenceService" not in (folder / "log").read_text(errors="replace"):
                assert server.poll() is None, (folder / "log").read_text(errors="replace")[-2000:]
                time.sleep(0.2)
            yield f"127.0.0.1:{port}"
        finally:
            server.terminate()


def arrived(patients: Patients, state: Path, store: JobStore) -> None:
    """One more study in the spool and in the queue."""
    paths = patients.next()
    headers = [dcmread(path, stop_before_pixels=True) for path in paths]
    uid = str(headers[0].SeriesInstanceUID)
    folder = state / "incoming" / uid
    folder.mkdir(parents=True)
    instances = []
    for path, header in zip(paths, headers, strict=True):
        place = folder / f"{header.SOPInstanceUID}.dcm"
        path.rename(place)
        study, sop = str(header.StudyInstanceUID), str(header.SOPInstanceUID)
        instances.append(
            Instance(study, uid, str(header.SOPClassUID), sop, str(header.file_meta.TransferSyntaxUID), place)
        )
    assert store.enqueue(Series(instances[0].study_uid, uid, tuple(instances)))


@pytest.mark.timeout(1800)
def test_studies_with_more_and_more_workers(tmp_path):
    (tmp_path / "models").mkdir()
    rates, lines = {}, []
    with postgresql.cluster(DURABLE) as server, stand_in(tmp_path / "models") as address:
        for count in WORKERS:
            folder = tmp_path / f"with-{count}"
            state = folder / "state"
            state.mkdir(parents=True)
            settings = {
                "infer": {"engine": "triton", "triton": {"address": address, "timeout_s": 4 * MODEL_S}},
                "store": {"state_dir": str(state), "database": server.url(), "min_free_gb": 0.1},
            }
            config = folder / "ich_node.yaml"
            config.write_text(yaml.safe_dump(settings))
            store = JobStore.open(state, url=settings["store"]["database"])
            command = [sys.executable, "-m", "ich_node", "infer", "--config", str(config)]
            workers = [
                Supervised(f"w{number}", command, folder, {**os.environ, "ICH_NODE_WORKER": f"w{number}"})
                for number in range(count)
            ]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.wait_ready()
            patients = Patients(folder / "sent", seed=count)
            jobs = JOBS_EACH * count
            cpu, started = spent(workers), time.monotonic()
            for _ in range(jobs):
                arrived(patients, state, store)
            while store.counts().get("done", 0) < jobs:
                time.sleep(0.05)
            taken = time.monotonic() - started
            cpu = spent(workers) - cpu
            for worker in workers:
                worker.stop()
            store.close()
            assert not any(worker.unexpected for worker in workers)
            rates[count] = jobs / taken
            share = rates[count] / (count * rates[WORKERS[0]])
            figures = f"{rates[count] * 60:.1f} studies/min, {share:.0%} of linear, {cpu / jobs:.2f} CPU s each"
            lines.append(f"{count} workers: {figures}")
    print(f"\nmodel {MODEL_S:g} s; " + "; ".join(lines))


def spent(workers: list[Supervised]) -> float:
    """CPU seconds that processes and their children have spent."""
    return sum(cpu_s(worker.process.pid) for worker in workers if worker.process)


def cpu_s(pid: int) -> float:
    """User and system time of a process and of its children, living and dead, seconds; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    own = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return own + sum(cpu_s(int(child)) for child in children)


# --- the ledger -------------------------------------------------------------------------------------------------------


def cycle(store: JobStore, name: str, state: Path) -> None:
    """One series through the ledger: queued, claimed, published, delivered."""
    images = tuple(Instance(name, name, "1.1", f"{name}.{number}", "1.2", state) for number in range(IMAGES))
    store.enqueue(Series(name, name, images))
    job = store.claim("w")
    if job is not None:
        items = [
            ResultInstance("1.1", f"9.{job.id}.{n}", state / "results" / str(job.id) / f"{n}.dcm")
            for n in range(RESULTS)
        ]
        store.publish(job, [Owed(item, "pacs") for item in items], priority="ROUTINE")
        store.sent_all([Sent(item, "0x0000", None) for item in store.deliveries(job.id)])


def clerk(number: int, url: str, state: Path, begin, end, done) -> None:
    """A process that takes jobs through the ledger until it is told to end."""
    store = JobStore.open(state, url=url)
    begin.wait()
    before, count = time.process_time(), 0
    while not end.is_set():
        cycle(store, f"1.{number}.{count}", state)
        count += 1
    done.put((count, time.process_time() - before))
    store.close()


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("waiting", [0, 2000])
def test_jobs_that_the_ledger_bears(tmp_path, waiting):
    lines = []
    with postgresql.cluster(DURABLE) as server:
        master = int((server.folder / "data" / "postmaster.pid").read_text().split()[0])
        for processes in CLERKS:
            url = server.url()
            store = JobStore.open(tmp_path, url=url)
            for number in range(waiting):
                name = f"7.{number}"
                store.enqueue(Series(name, name, (Instance(name, name, "1.1", f"{name}.1", "1.2", tmp_path),)))
            store.close()
            context = multiprocessing.get_context("spawn")
            begin, end, done = context.Barrier(processes + 1), context.Event(), context.Queue()
            started_with = [
                context.Process(target=clerk, args=(number, url, tmp_path, begin, end, done))
                for number in range(processes)
            ]
            for one in started_with:
                one.start()
            begin.wait()
            served, started = cpu_s(master), time.monotonic()
            time.sleep(FOR_S)
            end.set()
            found = [done.get() for _ in started_with]
            taken, served = time.monotonic() - started, cpu_s(master) - served
            for one in started_with:
                one.join()
            jobs = sum(count for count, _ in found)
            own = sum(cpu for _, cpu in found)
            costs = f"server {served / jobs * 1000:.1f}, clients {own / jobs * 1000:.1f} CPU ms a job"
            lines.append(f"{processes} processes {jobs / taken:.0f} jobs/s ({costs})")
    print(f"\n{waiting} waiting: " + "; ".join(lines))
