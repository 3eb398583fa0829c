"""Where everything lies below the state directory. Nobody else joins these names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ich_node.runtime.wake import Bell
from ich_node.store import durable

IMAGE = ".dcm"


@dataclass(frozen=True, slots=True)
class StateDir:
    """The state directory of one node; `root` may not be there yet."""

    root: Path

    def make(self) -> None:
        """Create the folders that every role relies on, durably, with those above them. Raises OSError."""
        for folder in (self.root, self.incoming, self.aside, self.results):
            durable.make_directory(folder)

    @property
    def incoming(self) -> Path:
        """<SeriesInstanceUID>/<SOPInstanceUID>.dcm: images that may become a job."""
        return self.root / "incoming"

    @property
    def aside(self) -> Path:
        """<SeriesInstanceUID>/<SOPInstanceUID>.dcm: what a sender's job drags along and nobody analyses."""
        return self.root / "set_aside"

    @property
    def results(self) -> Path:
        """<job id>/: result objects and result.json, complete when the folder has its name."""
        return self.root / "results"

    @property
    def trash(self) -> Path:
        """Where retention moves a folder before it deletes it."""
        return self.root / "trash"

    @property
    def commitments(self) -> Path:
        """<Transaction UID>.json: requests for Storage Commitment that are not answered yet."""
        return self.root / "commitments"

    @property
    def record(self) -> Path:
        """What was answered, a line a study; outlives the results."""
        return self.root / "board" / "results.jsonl"

    @property
    def opinions(self) -> Path:
        """What readers thought of it, a line an opinion."""
        return self.root / "board" / "feedback.jsonl"

    @property
    def counters(self) -> Path:
        """What the receiver has counted since its start, for monitoring; nobody misses it when it is gone."""
        return self.root / "receive.json"

    @property
    def receivers(self) -> Path:
        """<host>.json and <host>.lock: counters and lock of one of several receivers."""
        return self.root / "receivers"

    def counters_of(self, host: str) -> Path:
        """What one of several receivers has counted."""
        return self.receivers / f"{host}.json"

    def receiver_lock(self, name: str) -> Path:
        """Held by the receiver of that name for as long as it lives."""
        return self.receivers / f"{name}.lock"

    @property
    def database(self) -> Path:
        """The ledger."""
        return self.root / "node.db"

    @property
    def queue_bell(self) -> Bell:
        """Rings when there is a job to claim."""
        return Bell(self.root / "bells" / "queue")

    @property
    def owed_bell(self) -> Bell:
        """Rings when there is something to deliver."""
        return Bell(self.root / "bells" / "owed")

    def results_of(self, job_id: int) -> Path:
        """The results of one job."""
        return self.results / str(int(job_id))

    def draft_of(self, job_id: int, claim: int) -> Path:
        """The results of one job while the holder of its `claim`-th lease writes them."""
        return self.results / f"{int(job_id)}.{int(claim)}{durable.PART}"

    def worker_lock(self, name: str) -> Path:
        """Held by the worker of that name for as long as it lives."""
        return self.root / "workers" / f"{name}.lock"
