"""The Storage SCP and Verification SCP: what is offered, and the ordinary route of a C-STORE through pynetdicom.

In: `Scp(config, spool, hints).start()`. Out: instances in the spool, hints for the assembler. CT images come in every
transfer syntax that the node decodes; every other storage class that a PACS rule drags along is accepted and set aside,
so that the sender's job does not fail. The bytes of a dataset are stored as received.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from pydicom import Dataset
from pydicom._uid_dict import UID_dictionary
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import AE, _config, evt, register_uid
from pynetdicom.association import Association
from pynetdicom.presentation import AllStoragePresentationContexts, PresentationContext, build_context
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.sop_class import Verification

from ich_node.dicom import pynetdicom_3_0
from ich_node.dicom.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from ich_node.domain.errors import IchNodeError
from ich_node.receive import transport
from ich_node.receive.admission import Admission
from ich_node.receive.association_request import NO_CLASS, Proposal
from ich_node.receive.door import Handler, MakeSocket, Server
from ich_node.receive.fast_path import FastSocket
from ich_node.receive.reception import SUCCESS, Hints, Reception, StoreRequest
from ich_node.receive.shares import Shares
from ich_node.receive.transport import MOST_MESSAGE_BYTES, BoundedSocket, MessageMemory, Stream, peer_of
from ich_node.runtime import audit, counters, logs, tls
from ich_node.runtime.config import CallerConfig, Config
from ich_node.store.spool import Spool

TRANSFER_SYNTAXES = (
    "1.2.840.10008.1.2.1",  # Explicit VR Little Endian
    "1.2.840.10008.1.2.1.99",  # Deflated Explicit VR Little Endian
    "1.2.840.10008.1.2.5",  # RLE Lossless
    "1.2.840.10008.1.2.4.50",  # JPEG Baseline
    "1.2.840.10008.1.2.4.51",  # JPEG Extended
    "1.2.840.10008.1.2.4.57",  # JPEG Lossless
    "1.2.840.10008.1.2.4.70",  # JPEG Lossless, first-order prediction
    "1.2.840.10008.1.2.4.80",  # JPEG-LS Lossless
    "1.2.840.10008.1.2.4.81",  # JPEG-LS Near-lossless
    "1.2.840.10008.1.2.4.90",  # JPEG 2000 Lossless
    "1.2.840.10008.1.2.4.91",  # JPEG 2000
    "1.2.840.10008.1.2.4.201",  # HTJ2K Lossless
    "1.2.840.10008.1.2.4.202",  # HTJ2K Lossless RPCL
    "1.2.840.10008.1.2.4.203",  # HTJ2K
    "1.2.840.10008.1.2",  # Implicit VR Little Endian
)
"""What we accept, for every storage class. Big endian was retired, and its senders must offer implicit VR as well."""

PLAIN_SYNTAXES = ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1"]
"""What we accept for everything else."""

PRIVATE_STORAGE = {
    "SiemensCSANonImageStorage": "1.3.12.2.1107.5.9.1",
    "GEPETRawDataStorage": "1.2.840.113619.4.30",
    "PhilipsCTSyntheticImageStorage": "1.3.46.670589.5.0.9",
}
_PREFIX = "1.2.840.10008.5.1.4.1.1."
_KNOWN = {str(context.abstract_syntax) for context in AllStoragePresentationContexts}
_OLDER = {entry[4]: uid for uid, entry in UID_dictionary.items() if uid.startswith(_PREFIX) and "Storage" in entry[0]}
STORAGE_CLASSES = frozenset(_KNOWN | set(_OLDER.values()) | set(PRIVATE_STORAGE.values()))
"""The three CT image classes are among them; retired and well-known private ones too."""

for _keyword, _uid in {**_OLDER, **PRIVATE_STORAGE}.items():
    if _uid not in _KNOWN:
        register_uid(_uid, _keyword, StorageServiceClass)


@dataclass(frozen=True, slots=True)
class Extension:
    """Further services on the same port, e.g. Storage Commitment: abstract syntaxes and pynetdicom event handlers."""

    abstract_syntaxes: tuple[str, ...] = ()
    handlers: tuple[tuple[Any, Callable[..., Any]], ...] = ()


ACCEPT_S = 0.5
"""How often who waits for connections looks up: a stop waits for it, and strangers' connections are closed then."""
MOST_REGISTERED = 512
"""Storage classes that nobody knows and that the ordinary route learns; the direct one needs to learn none."""
_registered: set[str] = set()


def supports(transfer_syntax_uid: str) -> bool:
    """Whether we take datasets in this transfer syntax."""
    return transfer_syntax_uid in TRANSFER_SYNTAXES


def is_storage(uid: str, *, any_class: bool) -> bool:
    """Whether an abstract syntax is that of a storage class. any_class: whatever is private or of the future, too."""
    if uid in STORAGE_CLASSES or not any_class:
        return uid in STORAGE_CLASSES
    return uid.startswith(_PREFIX) or not (uid.startswith("1.2.840.10008.") or uid == NO_CLASS)


def storage_contexts(proposal: Proposal, *, any_class: bool) -> list[PresentationContext]:
    """What we support of the storage classes that a requestor proposes.

    Each with the transfer syntaxes in the requestor's own order, because it lists first what it holds; implicit VR goes
    last, because it loses what private elements are.
    """
    proposed: dict[str, dict[str, None]] = {}
    for context in proposal.contexts.values():
        if is_storage(context.abstract_syntax, any_class=any_class):
            proposed.setdefault(context.abstract_syntax, {}).update(dict.fromkeys(context.transfer_syntaxes))
    found = []
    for abstract_syntax, order in proposed.items():
        _register(abstract_syntax)
        supported = [uid for uid in order if supports(uid) and uid != ImplicitVRLittleEndian]
        found.append(build_context(abstract_syntax, [*supported, ImplicitVRLittleEndian]))
    return found


def _register(uid: str) -> None:
    """Teach pynetdicom's ordinary route that a class is a storage class."""
    if uid not in STORAGE_CLASSES and uid not in _registered and len(_registered) < MOST_REGISTERED:
        _registered.add(uid)
        register_uid(uid, f"UnknownStorage{len(_registered)}", StorageServiceClass)


class Scp:
    """The listening half of the receive role."""

    def __init__(
        self,
        config: Config,
        spool: Spool,
        hints: Hints,
        extension: Extension = Extension(),
        port: int | None = None,
    ) -> None:
        """Bind the port (port 0: any free one, see `port`); raises OSError when it is taken."""
        if gone := pynetdicom_3_0.lacks():
            raise IchNodeError(f"this pynetdicom cannot be used, it lacks {', '.join(gone)}")
        self._config = config.receive
        self._hints = hints
        self.admission = Admission(config.receive, config.ae_title)
        self.reception = Reception(spool, hints, config.receive.max_instance_mb << 20, Shares(config.receive))
        _config.LOG_HANDLER_LEVEL = "none"  # they quote datasets
        self.news = threading.Event()
        """Set when an association has ended: what it brought may be whole."""
        self._server = self._make_server(config, extension, config.receive.port if port is None else port)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(ACCEPT_S,), name="accept", daemon=True)

    @property
    def port(self) -> int:
        """The TCP port that we listen on."""
        return int(self._server.server_address[1])

    @property
    def alive(self) -> bool:
        """Whether connections are still accepted."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Accept associations from now on, in threads of our own."""
        self._thread.start()

    def stop(self, within_s: float = 10) -> None:
        """Refuse new associations, let running C-STOREs finish, abort what is left."""
        self.admission.stopping = True
        end = time.monotonic() + within_s
        while (open_ones := self._server.active_associations) and time.monotonic() < end:
            for association in open_ones:
                if not getattr(association.dul.socket, "busy", False):
                    association.abort()
            time.sleep(0.02)
        self._server.shutdown()
        for association in self._server.active_associations:
            association.abort()
        self._thread.join(within_s)

    def _make_server(self, config: Config, extension: Extension, port: int) -> Server:
        self._entity = entity = AE(config.ae_title)
        self._extension = extension
        entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        entity.maximum_pdu_size = transport.MAX_PDU
        entity.maximum_associations = 1 << 20  # ours are counted by Admission, which half-open ones do not fill
        entity.acse_timeout = self._config.acse_timeout_s
        entity.dimse_timeout = self._config.dimse_timeout_s
        entity.network_timeout = self._config.idle_timeout_s
        entity.add_supported_context(Verification)
        for abstract_syntax in extension.abstract_syntaxes:  # reports come from peers that take the SCP role
            entity.add_supported_context(abstract_syntax, PLAIN_SYNTAXES, scu_role=True, scp_role=True)
        handlers = [
            (evt.EVT_C_STORE, self._on_c_store),
            (evt.EVT_ACCEPTED, lambda _event: counters.get().add("associations_accepted")),
            (evt.EVT_RELEASED, self._on_released),
            (evt.EVT_ABORTED, self._on_aborted),
            *extension.handlers,
        ]
        server: Server = entity.make_server(
            (self._config.address, port), server_class=Server, request_handler=Handler, evt_handlers=handlers
        )
        server.admission = self.admission
        server.config = self._config
        server.tls = tls.Reloading(self._config.tls, tls.server_context) if self._config.tls else None
        server.contexts_for = self._contexts_for
        server.supports = supports
        server.make_socket = self._socket_maker()
        return server

    def _contexts_for(self, proposal: Proposal, caller: CallerConfig) -> list[PresentationContext]:
        """What a caller may use: the node's services, as far as `services` of its entry names them."""
        offered = {"echo": [str(Verification)], "commitment": [*self._extension.abstract_syntaxes]}
        allowed = {uid for service, uids in offered.items() if service in caller.services for uid in uids}
        found = [context for context in self._entity.supported_contexts if context.abstract_syntax in allowed]
        if "store" in caller.services:
            found += storage_contexts(proposal, any_class=self._config.any_storage_class)
        return deepcopy(found)

    def _socket_maker(self) -> MakeSocket:
        """The direct route unless the configuration wants the ordinary one."""
        memory = MessageMemory(min(MOST_MESSAGE_BYTES, 2 * (self._config.max_instance_mb << 20)))

        def make(assoc: Association, stream: Stream, first: bytes) -> BoundedSocket:
            if self._config.fast_path:
                return FastSocket(assoc, stream, first, self._config, memory, self.reception)
            return BoundedSocket(assoc, stream, first, self._config, memory)

        return make

    def _on_c_store(self, event: evt.Event) -> Dataset | int:
        """Answer a C-STORE-RQ on the ordinary route."""
        incoming = self.reception.begin(
            StoreRequest(
                sop_class_uid=str(event.request.AffectedSOPClassUID),
                sop_instance_uid=str(event.request.AffectedSOPInstanceUID),
                abstract_syntax=str(event.context.abstract_syntax),
                transfer_syntax_uid=str(event.context.transfer_syntax),
                association=id(event.assoc),
                peer=peer_of(event.assoc),
            )
        )
        with event.request.DataSet.getbuffer() as dataset:
            answer = incoming.finish([dataset])
        if answer.status == SUCCESS:
            return SUCCESS
        status = Dataset()
        status.Status, status.ErrorComment = answer.status, answer.comment
        return status

    def _on_released(self, event: evt.Event) -> None:
        counters.get().add("associations_released")
        self._hints.ended(id(event.assoc), released=True)
        self.news.set()
        audit.get().association_ended(id(event.assoc))

    def _on_aborted(self, event: evt.Event) -> None:
        counters.get().add("associations_aborted")
        requestor = event.assoc.requestor
        reason = getattr(event.assoc.dul.socket, "cause", "") or "the peer aborted, or nothing came for too long"
        if count := self.admission.trouble(("aborted", requestor.address, requestor.ae_title, reason)):
            logs.get().info(
                "association_aborted",
                address=requestor.address,
                calling_ae_title=str(requestor.ae_title),
                reason=reason,
                count=count,
            )
        self._hints.ended(id(event.assoc), released=False)
        self.news.set()
        audit.get().association_ended(id(event.assoc))
