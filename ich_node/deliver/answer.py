"""What a destination's answer means, whatever its protocol. Pure.

SENT: it is there. REFUSED: the same bytes get the same answer, so a person has to act. LATER: try again; an unknown
failure is LATER, for it is no reason to drop a result.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Verdict(Enum):
    """What to do after an answer."""

    SENT = "sent"
    REFUSED = "refused"
    LATER = "later"


@dataclass(frozen=True, slots=True)
class Answer:
    """A destination's answer: verdict, code as its protocol writes it (None: no answer at all), our plain words.

    remark: what the destination itself said about it, a stranger's words: for the ledger, never for the log.
    sent_as: (SOP Class UID, SOP Instance UID) of what really went out, where that is an alternate.
    """

    verdict: Verdict
    code: str | None
    cause: str
    remark: str = ""
    sent_as: tuple[str, str] | None = None

    @property
    def in_full(self) -> str:
        """Cause and remark, for the ledger."""
        return f"{self.cause}; it says {self.remark}" if self.remark else self.cause


LONGEST_REMARK = 200
"""Characters that are kept of a stranger's words: enough for a sentence, too few for a message."""


def cleaned(words: str) -> str:
    """A stranger's words in quotes, printable ASCII only, on one line and short; empty when there are none."""
    line = " ".join(words.split())[:LONGEST_REMARK]
    text = "".join(character if " " <= character <= "~" else "?" for character in line)
    return f'"{text}"' if text else ""
