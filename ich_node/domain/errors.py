"""The exceptions of ich_node, grouped by what the caller can do about them.

IchNodeError
├── ConfigError            the configuration is wrong: exit 78, a restart does not help
├── UnusableSeries         permanent: geometry, attributes or pixels → the study is reported "not analysed, because …"
├── ModelError             permanent: checksum, shapes, NaN, self-test → process nothing
├── EngineFailure          retryable; after a CUDA error the worker exits and starts afresh
├── UnidentifiableInstance permanent: bytes that do not say who they are → 0xC000
├── SpoolFull              answered with 0xA700 Out of Resources; recovers by itself
├── StoreError             the database can not be trusted: integrity, unknown schema version
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
    """Bytes that do not say which instance they are, or can not be read as DICOM."""


class SpoolFull(IchNodeError):
    """The spool has no room for another instance."""


class StoreError(IchNodeError):
    """The job database can not be used as it is."""


class DeliveryError(IchNodeError):
    """A destination did not take an instance. `status` is the DIMSE status, or None without an answer."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class PeerUnavailable(DeliveryError):
    """Try again later."""


class PeerRefused(DeliveryError):
    """Trying again gives the same answer."""
