"""`ich-node check`: is this node fit to run? One line per check, in the order in which an administrator would look.

Everything that can fail at the start of a role is tried here as the role would try it, and what can fail later is
looked at: dates of certificates, space, clock, whether each destination takes what will be sent. Nothing is changed,
but for the state directory, which is made if it is not there.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import socket
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from pydicom.uid import (
    UID,
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    ParametricMapStorage,
    SecondaryCaptureImageStorage,
)

from ich_node.deliver.dicom import scu
from ich_node.deliver.hl7.mllp import Hl7Peer
from ich_node.deliver.web.http import Client, secret
from ich_node.domain.errors import ConfigError, IchNodeError, PeerUnavailable
from ich_node.infer import bundle
from ich_node.infer.engine import open_engine
from ich_node.runtime import tls
from ich_node.runtime.config import Config, DestinationConfig, TlsConfig
from ich_node.store import routes, shared_disk
from ich_node.store.ledger import database

NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "afs", "ceph", "glusterfs"})
RENEW_WITHIN = timedelta(days=30)  # chosen: time enough to order a certificate
NOT_THERE = frozenset((502, 503, 504))  # RFC 9110 15.6: somebody answers for the service, which does not
TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised


@dataclass(frozen=True, slots=True)
class Check:
    """One check: its subject, whether it passed, and what was found."""

    subject: str
    passed: bool
    detail: str


def checks(config: Config) -> Iterator[Check]:
    """Every check, as it is made."""
    yield Check("configuration", True, "valid")
    yield _spool(config)
    yield _database(config)
    yield _clock(config)
    yield _listening(config)
    yield from _tls(config)
    yield from _model(config)
    for destination in config.deliver.destinations:
        yield _destination(config, destination)
    for listener in config.deliver.hl7:
        where = f"{listener.host} port {listener.port}"
        yield Check(f"HL7 listener {listener.name}", Hl7Peer(config, listener).answers(), where)
    for hook in config.deliver.webhooks:
        yield _url(config, f"webhook {hook.name}", hook.url, hook.tls, hook.secrets)
    for archive in config.deliver.dicomweb:
        subject, token = f"DICOMweb archive {archive.name}", [archive.token] if archive.token else []
        yield _url(config, subject, f"{archive.url.rstrip('/')}/studies", archive.tls, token)
    planned = routes.plan(config.deliver)
    detail = "; ".join(f"{priority}: {names or 'nobody'}" for priority, names in planned)
    yield Check("routes", all(names for priority, names in planned if priority in routes.URGENT), detail)
    if not config.deliver.everywhere:
        yield Check("destinations", False, "none configured: results would stay on this machine")


def _spool(config: Config) -> Check:
    folder = config.state_dir
    try:
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    except OSError as error:
        return Check("spool", False, f"{folder}: {error.strerror}")
    if not os.access(folder, os.W_OK | os.X_OK):
        return Check("spool", False, f"{folder}: not writable by this account")
    kind = file_system_of(folder, Path("/proc/self/mounts"))
    free_gb = shutil.disk_usage(folder).free / 1e9
    detail = f"{folder}: {kind}, {free_gb:.1f} GB free, instances are refused below {config.store.min_free_gb:g} GB"
    if config.store.shared:
        if why := shared_disk.unsafe(shared_disk.mount_of(folder)) or shared_disk.trouble(folder):
            return Check("spool", False, f"{detail}; it cannot be shared: {why}")
    elif kind in NETWORK_FILE_SYSTEMS:
        return Check("spool", False, f"{detail}; a network file system does not keep what was acknowledged")
    return Check("spool", free_gb > config.store.min_free_gb, detail)


def file_system_of(folder: Path, mounts: Path) -> str:
    """The file system type under `folder`, by the longest mount point in `mounts` (proc(5)); "unknown" without it."""
    try:
        rows = [line.split() for line in mounts.read_text().splitlines()]
    except OSError:
        return "unknown"
    resolved = folder.resolve()
    over = [(len(row[1]), row[2]) for row in rows if resolved.is_relative_to(row[1].replace("\\040", " "))]
    return max(over, default=(0, "unknown"))[1]


def _database(config: Config) -> Check:
    try:
        database.open_database(config.state_dir, config.store.database).dispose()
    except IchNodeError as error:
        return Check("database", False, str(error))
    return Check("database", True, "intact, schema up to date")


def _clock(config: Config) -> Check:
    """Results carry this machine's time; it cannot lie before the files of the program and of the model."""
    now = datetime.now().astimezone()
    manifest = config.bundle_dir / "ich.yaml"
    newest = max((p.stat().st_mtime for p in (Path(__file__), manifest) if p.exists()), default=0.0)
    detail = f"{now:%Y-%m-%d %H:%M:%S %z}" + ("" if _synchronised() else ", not synchronised with a time server")
    if now.timestamp() < newest:
        return Check("clock", False, f"{detail}: earlier than the program was installed")
    return Check("clock", True, detail)


def _synchronised() -> bool:
    """What the kernel says of the clock (adjtimex(2), asked without changing anything); True where it cannot say."""
    try:
        state: int = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(256))  # struct timex has 208 bytes
    except (OSError, AttributeError):
        return True
    return state != TIME_ERROR


def _listening(config: Config) -> Check:
    """Whether the port is ours to open, or a node answers there already."""
    receive = config.receive
    where = f"{receive.address} port {receive.port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(receive.address, receive.port, type=socket.SOCK_STREAM)[
            0
        ]
        with closing(socket.socket(family, kind, protocol)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return _answering(config, where)
        hint = {
            errno.EACCES: "not allowed below port 1024; see docs/operating.md, port 104",
            errno.EADDRNOTAVAIL: "no interface of this machine has this address",
        }.get(error.errno or 0, error.strerror or str(error))
        return Check("receive", False, f"{where}: {hint}")
    return Check("receive", True, f"{where} is free")


def _answering(config: Config, where: str) -> Check:
    """Who is it that listens on our port?"""
    if config.receive.tls is not None:
        return Check("receive", True, f"{where} is in use, by this node if it runs")
    any_address = config.receive.address in ("0.0.0.0", "::")  # noqa: S104 — compared, not bound
    host = "localhost" if any_address else config.receive.address
    itself = DestinationConfig(name="self", ae_title=config.ae_title, host=host, port=config.receive.port)
    answer = scu.echo(config.ae_title, itself, config.deliver)
    if answer.ok or "AE title" in answer.cause or "reject" in answer.cause:
        return Check("receive", True, f"{where}: a DICOM node listens there already ({answer.cause})")
    return Check("receive", False, f"{where} is taken by another program ({answer.cause})")


# --- certificates ----------------------------------------------------------------------------------------------------


def _tls(config: Config) -> Iterator[Check]:
    if config.receive.tls is not None:
        yield _certificate("receive.tls", config.receive.tls, server=True)
    for destination in config.deliver.destinations:
        if destination.tls is not None:
            yield _certificate(f"tls of destination {destination.name}", destination.tls, server=False)
    if config.audit.ca is not None:
        yield _authorities("audit.ca", config.audit.ca)


def _certificate(subject: str, files: TlsConfig, *, server: bool) -> Check:
    """The files fit together, are in date, and the key is for few eyes."""
    try:
        (tls.server_context if server else tls.client_context)(files)
        own = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    except (ConfigError, OSError, ValueError) as error:
        return Check(subject, False, "; ".join(error.problems) if isinstance(error, ConfigError) else str(error))
    mode = stat.S_IMODE(files.private_key.stat().st_mode)
    if mode & 0o007:
        return Check(subject, False, f"{files.private_key}: mode {mode:04o}, everybody on this machine may use the key")
    outdated = _out_of_date(own)
    names = ", ".join(_names(own)) or "no name"
    detail = f"{names}; valid until {own.not_valid_after_utc:%Y-%m-%d}"
    if outdated:
        return Check(subject, False, f"{detail}: {outdated}")
    if server and not _names(own):
        return Check(subject, False, f"{detail}: peers check the name of the host that they call")
    soon = own.not_valid_after_utc - datetime.now(UTC) < RENEW_WITHIN
    return Check(subject, True, detail + (": renew it soon" if soon else ""))


def _authorities(subject: str, path: Path) -> Check:
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        return Check(subject, False, f"{path}: {error}")
    problem = next(filter(None, map(_out_of_date, found)), None)
    return Check(
        subject, problem is None, f"{path}: {len(found)} authorities" + (f", one {problem}" if problem else "")
    )


def _out_of_date(certificate: x509.Certificate) -> str | None:
    now = datetime.fromtimestamp(time.time(), UTC)
    if now < certificate.not_valid_before_utc:
        return f"not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
    return "has expired" if now > certificate.not_valid_after_utc else None


def _names(certificate: x509.Certificate) -> list[str]:
    """Hosts that the certificate names (RFC 6125: the subject's common name does not count)."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    addresses = map(str, names.get_values_for_type(x509.IPAddress))
    return [*names.get_values_for_type(x509.DNSName), *addresses]


# --- what it works with ----------------------------------------------------------------------------------------------


def _model(config: Config) -> Iterator[Check]:
    try:
        loaded = bundle.load(config.bundle_dir)
    except IchNodeError as error:
        yield Check("model bundle", False, str(error))
        return
    card = loaded.card
    yield Check("model bundle", True, f"{card.id} {card.version}, sha256 {card.sha256[:12]}… matches")
    try:
        engine = open_engine(config.infer, loaded)
        engine.self_test()
    except IchNodeError as error:
        yield Check("inference", False, str(error))
        return
    yield Check("inference", True, f"self-test passed on {engine.name} (asked for {config.infer.provider})")


def _destination(config: Config, destination: DestinationConfig) -> Check:
    """C-ECHO; on the same association, everything that will be sent is proposed."""
    wanted = list(_sent(config, destination))
    answer = scu.echo(config.ae_title, destination, config.deliver, {uid for one_of in wanted for uid in one_of})
    detail = f"{answer.cause} ({answer.seconds * 1000:.0f} ms)"
    if missing := [UID(one_of[0]).name for one_of in wanted if answer.refused.issuperset(one_of)]:
        return Check(f"destination {destination.name}", False, f"{detail}, but does not take {', '.join(missing)}")
    return Check(f"destination {destination.name}", answer.ok, detail)


def _sent(config: Config, destination: DestinationConfig) -> Iterator[tuple[str, ...]]:
    """The SOP classes of what a destination gets; of several, one is enough."""
    if "pictures" in destination.objects:
        yield (SecondaryCaptureImageStorage,)
        for chosen, uid in (
            (config.report.multi_frame, MultiFrameTrueColorSecondaryCaptureImageStorage),
            (config.report.parametric_map, ParametricMapStorage),
            (config.report.presentation_state, GrayscaleSoftcopyPresentationStateStorage),
        ):
            if chosen:
                yield (uid,)
    if "structured_report" in destination.objects:
        yield (Comprehensive3DSRStorage, ComprehensiveSRStorage, EnhancedSRStorage)
    if "text_report" in destination.objects:
        yield (BasicTextSRStorage,)


def _url(config: Config, subject: str, url: str, files: TlsConfig | None, secrets: Iterable[Path]) -> Check:
    """Whether a web server answers there, whatever it says to a question that changes nothing."""
    try:
        for path in secrets:
            secret(path)
        client = Client(files, config.deliver)
        status = client.ask(url)
        client.release()
    except PeerUnavailable as error:
        return Check(subject, False, f"{url}: {error}")
    return Check(subject, status not in NOT_THERE, f"{url}: answers (status {status})")
