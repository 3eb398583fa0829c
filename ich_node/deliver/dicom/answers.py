"""What a peer's answer to a C-STORE means: one table for DIMSE statuses. Pure."""

from __future__ import annotations

from ich_node.deliver.answer import Answer, Verdict
from ich_node.domain.ledger import dimse_code

# PS3.4 B.2.3 and Table B.2-1 (C-STORE), PS3.7 Annex C (general statuses): first matching row counts.
STATUSES: tuple[tuple[int, int, Verdict, str], ...] = (
    (0x0000, 0x0000, Verdict.SENT, "stored"),
    (0x0111, 0x0111, Verdict.SENT, "already there (duplicate SOP Instance)"),
    (0xB000, 0xB000, Verdict.SENT, "stored, the peer changed some elements"),
    (0xB006, 0xB006, Verdict.SENT, "stored, the peer discarded some elements"),
    (0xB007, 0xB007, Verdict.SENT, "stored, though the peer found that it does not match its SOP Class"),
    (0xB001, 0xBFFF, Verdict.SENT, "stored with a warning"),
    (0x0001, 0x0001, Verdict.SENT, "stored with a warning"),
    (0x0107, 0x0107, Verdict.SENT, "stored, an attribute was ignored"),
    (0x0116, 0x0116, Verdict.SENT, "stored, an attribute value was out of range"),
    (0xA700, 0xA7FF, Verdict.LATER, "the peer is out of resources"),
    (0xA900, 0xA9FF, Verdict.REFUSED, "the peer says that the instance does not match its SOP Class"),
    (0xC000, 0xCFFF, Verdict.REFUSED, "the peer cannot understand the instance"),
    (0x0106, 0x0106, Verdict.REFUSED, "the peer finds an attribute value invalid"),
    (0x0115, 0x0115, Verdict.REFUSED, "the peer finds an argument invalid"),
    (0x0117, 0x0117, Verdict.REFUSED, "the peer finds the SOP Instance UID invalid"),
    (0x0118, 0x0118, Verdict.REFUSED, "the peer does not know the SOP Class"),
    (0x0119, 0x0119, Verdict.REFUSED, "the peer holds this SOP Instance UID under another SOP Class"),
    (0x0120, 0x0121, Verdict.REFUSED, "the peer misses an attribute"),
    (0x0122, 0x0122, Verdict.REFUSED, "the peer does not support the SOP Class"),
    (0x0124, 0x0124, Verdict.REFUSED, "the peer does not allow this node to store"),
    (0x0211, 0x0211, Verdict.REFUSED, "the peer does not recognise the operation"),
    (0x0212, 0x0212, Verdict.REFUSED, "the peer finds the request malformed"),
    (0x0110, 0x0110, Verdict.LATER, "the peer failed to process the instance"),
    (0x0210, 0x0210, Verdict.LATER, "the peer is still busy with the same message"),
    (0x0213, 0x0213, Verdict.LATER, "the peer is out of resources"),
    (0xFE00, 0xFE00, Verdict.LATER, "the peer cancelled the operation"),
)


def meaning(status: int, remark: str = "") -> Answer:
    """The row of STATUSES for a C-STORE response status."""
    for low, high, verdict, cause in STATUSES:
        if low <= status <= high:
            return Answer(verdict, dimse_code(status), cause, remark)
    code = dimse_code(status)
    return Answer(Verdict.LATER, code, f"the peer answered with the unknown status {code}", remark)
