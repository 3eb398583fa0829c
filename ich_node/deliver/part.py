"""What the deliver role runs: a piece of work for one destination."""

from __future__ import annotations

from typing import Protocol

from ich_node.runtime.service import Stop


class Part(Protocol):
    """Work for one destination, in a thread of its own."""

    name: str

    @property
    def last_sign_of_life(self) -> float:
        """When it last went on, time.monotonic(): SILENCE_FACTOR of its longest wait later it counts as hung."""

    def run(self, stop: Stop) -> None:
        """Work until `stop` is set; what it raises is a defect, logged and begun again."""

    def interrupt(self) -> None:
        """End whatever it waits for, from any thread."""
