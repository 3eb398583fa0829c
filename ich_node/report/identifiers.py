"""Who an object is: UIDs that follow from what it was made of, so that nothing can exist twice under two names.

In: the identity of an analysis (input, model, configuration) and a role. Out: `2.25.` UIDs (PS3.5 B.2). The same input,
model and configuration give the same UID on every machine, at any time; any other gives another.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from pydicom.uid import UID

from ich_node import __version__
from ich_node.domain.findings import Analysis
from ich_node.runtime.config import ReportConfig

NAMESPACE = "ich_node"


def uid(role: str, /, **fields: str) -> UID:
    """A UID for `role`, derived from named fields: `2.25.` and 128 bits of SHA-256 laid out as RFC 9562 version 8.

    Names and values are hashed as JSON, which keeps them apart: no two sets of fields read the same.
    """
    text = json.dumps([NAMESPACE, role, sorted(fields.items())], ensure_ascii=True)
    octets = bytearray(hashlib.sha256(text.encode("ascii")).digest()[:16])
    octets[6] = octets[6] & 0x0F | 0x80  # version 8: the meaning of the other bits is ours
    octets[8] = octets[8] & 0x3F | 0x80  # variant of RFC 9562
    return UID(f"2.25.{int.from_bytes(octets, 'big')}")


@dataclass(frozen=True, slots=True)
class Identity:
    """What the results of one analysis are named after.

    configuration: everything outside input and model that shows in the results, as text.
    """

    study_uid: str
    series_uid: str
    input_digest: str
    model_id: str
    model_version: str
    model_sha256: str
    device_name: str
    configuration: str

    @classmethod
    def of(cls, analysis: Analysis, options: ReportConfig, device_name: str, revision: int = 0) -> Identity:
        """The identity of an analysis reported with these options by this device, for the `revision`-th time anew."""
        configuration = {"ich_node": __version__, "provider": analysis.provider, **options.model_dump(mode="json")}
        if revision:
            configuration["revision"] = revision
        return cls(
            study_uid=analysis.study_uid,
            series_uid=analysis.series_uid,
            input_digest=analysis.input_digest,
            model_id=analysis.card.id,
            model_version=analysis.card.version,
            model_sha256=analysis.card.sha256,
            device_name=device_name,
            configuration=json.dumps(configuration, sort_keys=True),
        )

    @property
    def device_uid(self) -> UID:
        """Device UID (0018,1002): this node with this model, whatever it looks at."""
        return uid("device", **self._device())

    def instance(self, role: str, source: str = "") -> UID:
        """SOP Instance UID of an object, or any other UID inside it; `source` tells siblings apart."""
        return uid(role, source=source, **self._analysis())

    def series(self, role: str) -> UID:
        """Series Instance UID of objects that belong to this one analysis: a correction gets a series of its own."""
        return uid(f"series {role}", **self._analysis())

    def lasting_series(self, role: str) -> UID:
        """Series Instance UID that a correction (more slices, same source series, same model) shares."""
        return uid(f"lasting series {role}", study_uid=self.study_uid, series_uid=self.series_uid, **self._device())

    def _device(self) -> dict[str, str]:
        return {
            "model_id": self.model_id,
            "model_version": self.model_version,
            "model_sha256": self.model_sha256,
            "device_name": self.device_name,
        }

    def _analysis(self) -> dict[str, str]:
        return {
            **self._device(),
            "study_uid": self.study_uid,
            "series_uid": self.series_uid,
            "input_digest": self.input_digest,
            "configuration": self.configuration,
        }
