"""How long to wait before trying again: the one back-off of the node."""

from __future__ import annotations

import random
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Patience:
    """Waits that double from base_s up to longest_s, in seconds, each 50 to 100 % of that.

    Jitter, so that many nodes do not return to a PACS in the same second.
    """

    base_s: float
    longest_s: float
    random_source: random.Random = field(default_factory=random.Random)

    def wait(self, attempts: int) -> float:
        """Seconds to wait after `attempts` failures (≥ 1)."""
        doubled = self.base_s * 2.0 ** min(attempts - 1, 30)  # 30: no overflow, and years at any base
        return min(self.longest_s, doubled) * self.random_source.uniform(0.5, 1.0)

    def longest(self) -> float:
        """Seconds to wait when trying soon is known to be of no use."""
        return self.longest_s * self.random_source.uniform(0.5, 1.0)
