"""Structured logs: JSON lines on stderr, one canonical line per unit of work, event names from a closed list.

Invariant: no patient data. UIDs, AE titles, addresses, counts, states and reasons in our own words only; never a value
that a peer put into a dataset, except UIDs.
"""

from __future__ import annotations

import logging
import sys
import warnings
from typing import Any

import structlog

from ich_node.runtime.config import LogConfig

EVENTS = frozenset(
    {
        # life of a role
        "role_started",
        "role_stopped",
        "role_failed",
        "child_ended",
        # receive
        "association_rejected",
        "association_aborted",
        "contexts_refused",
        "instance_stored",
        "instance_refused",
        "instance_set_aside",
        "duplicate_differs",
        "spool_full",
        "spool_recovered",
        "series_queued",
        "series_ineligible",
        "series_unreadable",
        # infer
        "engine_ready",
        "gpu_memory_full",
        "job_finished",
        "job_retried",
        "job_failed",
        "job_superseded",
        "jobs_recovered",
        # deliver
        "delivery_finished",
        "delivery_postponed",
        "delivery_refused",
        "delivery_failed",
        "delivery_taken_over",
        "delivery_lease_lost",
        "commitment_requested",
        "commitment_finished",
        "commitment_failed",
        # board
        "board_open",
        # house-keeping
        "retention_finished",
        "retention_failed",
        "database_rebuilt",
        "database_unavailable",
        "database_migrated",
        "certificate_reloaded",
        "audit_unreachable",
    }
)


def _known_event(_logger: Any, _method: str, fields: structlog.typing.EventDict) -> structlog.typing.EventDict:
    if fields["event"] not in EVENTS:
        raise ValueError(f"unknown log event {fields['event']!r}: add it to logs.EVENTS")
    return fields


def _of_role(role: str) -> structlog.typing.Processor:
    """Every line of every thread says which role wrote it."""

    def add(_logger: Any, _method: str, fields: structlog.typing.EventDict) -> structlog.typing.EventDict:
        return {**fields, "role": role}

    return add


def configure(config: LogConfig, role: str) -> None:
    """Write JSON lines to stderr from now on; every line carries the role."""
    level = logging.getLevelNamesMapping()[config.level.upper()]
    structlog.configure(
        processors=[
            _known_event,
            _of_role(role),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    for library in ("pynetdicom", "pydicom"):
        logging.getLogger(library).setLevel(logging.CRITICAL)  # their lines quote datasets
    warnings.simplefilter("ignore")  # so do pydicom's warnings


def get() -> Any:
    """The logger."""
    return structlog.get_logger()
