"""The exceptions of ich_node, grouped by what the caller can do about them.

IchNodeError
├── ConfigError            the configuration is wrong: exit 78, a restart does not help
├── UnusableSeries         permanent: geometry, attributes or pixels → the study is reported "not analysed, because …"
├── ModelError             permanent: checksum, shapes, NaN, self-test → process nothing
├── EngineFailure          retryable; after a CUDA error the worker exits and starts afresh
├── UnidentifiableInstance permanent: bytes that do not say who they are → 0xC000
├── SpoolFull              answered with 0xA700 Out of Resources; recovers by itself
├── StoreError             the database cannot be used: damaged, locked, full, unknown schema version
├── Superseded             somebody else moved the job meanwhile: drop what was made, go on with the next
├── TooEarly               more images of the series may come: publish later
├── ResultConflict         permanent: another job owes results of the same name → that job fails, visibly
├── NoSuchJob              an operator's number that no job has
├── WrongState             an operator's wish that does not fit the job's state
└── DeliveryError
    ├── PeerUnavailable    retryable: refused, aborted, time-out, 0xA7xx → jittered back-off for hours
    └── PeerRefused        permanent: 0xA9xx, 0xCxxx, 0x0122, no accepted presentation context → failed, plain cause
"""

from __future__ import annotations

from ich_node.domain.reasons import Reason


class IchNodeError(Exception):
    """Base of every error that ich_node raises on purpose."""


class ConfigError(IchNodeError):
    """The configuration is wrong. `problems` holds one line per problem, each with its key path."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class UnusableSeries(IchNodeError):
    """The series cannot be analysed, and never will be, for `reason`."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(str(reason))
        self.reason = reason


class ModelError(IchNodeError):
    """The model bundle is not what its manifest says."""


class EngineFailure(IchNodeError):
    """Inference failed for a reason that another attempt may not meet."""


class UnidentifiableInstance(IchNodeError):
    """Bytes that do not say which instance they are, or cannot be read as DICOM."""


class SpoolFull(IchNodeError):
    """The spool has no room for another instance."""


class StoreError(IchNodeError):
    """The job database cannot be used as it is."""


class Superseded(IchNodeError):
    """A claimed job was taken back: dropped by an operator, or given to another worker when its lease was over."""


class TooEarly(IchNodeError):
    """The results of a job must not go out before `until` (Unix seconds): its series may go on."""

    def __init__(self, until: float) -> None:
        super().__init__("more images of the series may come")
        self.until = until


class ResultConflict(IchNodeError):
    """Results of a job bear names under which another job owes results already."""


class NoSuchJob(IchNodeError):
    """There is no job with that number."""

    def __init__(self, job_id: int) -> None:
        super().__init__(f"there is no job {job_id}")


class WrongState(IchNodeError):
    """What an operator asked for does not fit the state of the job; the message says which states do."""


class DeliveryError(IchNodeError):
    """A destination did not take an instance. `status` is the DIMSE status, or None without an answer."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class PeerUnavailable(DeliveryError):
    """Try again later."""


class PeerRefused(DeliveryError):
    """Trying again gives the same answer."""
