"""A destination that is a Storage SCP, as the sender sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pydicom.uid import UID

from ich_node.deliver.answer import Answer
from ich_node.deliver.dicom import scu
from ich_node.domain.ledger import Delivery
from ich_node.runtime import audit
from ich_node.runtime.config import Config, DestinationConfig

Load = tuple[scu.Outgoing, ...]
"""An instance and what may go out in its place, best first."""


class DicomConnection:
    """An association."""

    def __init__(self, association: scu.Association) -> None:
        self._association = association

    @property
    def alive(self) -> bool:
        """True until either side has ended it."""
        return self._association.alive

    @property
    def last_progress(self) -> float:
        """When bytes went through last, time.monotonic()."""
        return self._association.last_progress

    def covers(self, loads: Sequence[Load]) -> bool:
        """True when every presentation context that `loads` need was proposed."""
        return self._association.covers(file for load in loads for file in load)

    def send(self, load: Load) -> Answer:
        """C-STORE."""
        answer, sent = self._association.store(load)
        if sent is load[0]:
            return answer
        cause = f"{answer.cause}; sent as {_name(sent)}, because the peer does not take {_name(load[0])}"
        return replace(answer, cause=cause, sent_as=(sent.sop_class_uid, sent.sop_instance_uid))

    def release(self) -> None:
        """End it in order."""
        self._association.release()

    def interrupt(self) -> None:
        """End it at once, from any thread."""
        self._association.interrupt()


class DicomPeer:
    """The destination."""

    def __init__(self, config: Config, destination: DestinationConfig) -> None:
        self.node = audit.Node(destination.ae_title, destination.host)
        self._config = config
        self._destination = destination

    def load(self, item: Delivery) -> Load:
        """What to send for a delivery; raises PeerRefused when its file cannot be read."""
        return scu.versions(item.path)

    def connect(self, loads: Sequence[Load]) -> DicomConnection:
        """An association with the presentation contexts that `loads` need; raises PeerUnavailable or PeerRefused."""
        contexts = scu.contexts_for(file for load in loads for file in load)
        return DicomConnection(scu.associate(self._config.ae_title, self._destination, self._config.deliver, contexts))

    def answers(self) -> bool:
        """Whether it answers a C-ECHO."""
        return scu.echo(self._config.ae_title, self._destination, self._config.deliver).ok


def _name(file: scu.Outgoing) -> str:
    return UID(file.sop_class_uid).name.removesuffix(" Storage")
