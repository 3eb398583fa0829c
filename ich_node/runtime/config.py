"""One YAML file in, one frozen Config out; every problem is reported at once, with its key path.

Invariants: a key carries its unit in its name; an unknown key is an error with a suggestion; the file holds no secret
(private keys are named by path). Relative paths are taken from the folder of the configuration file.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydicom.datadict import tag_for_keyword

from ich_node.domain.dicom import AETitle
from ich_node.domain.errors import ConfigError
from ich_node.runtime import yaml_file

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
PACKAGE_ROOT = Path(__file__).resolve().parents[1]  # the folder ich_node, two above this file
AE = Annotated[str, AfterValidator(AETitle)]
Port = Annotated[int, Field(ge=1, le=65535)]
Service = Literal["echo", "store", "commitment"]


class Section(BaseModel):
    """A group of keys. One value where a list is meant is a list of one; an AE title of digits needs no quotes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, coerce_numbers_to_str=True)

    @model_validator(mode="before")
    @classmethod
    def _lists(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        lists = {name for name, field in cls.model_fields.items() if get_origin(field.annotation) is tuple}
        return {
            key: (value,) if key in lists and isinstance(value, str | dict) else value for key, value in data.items()
        }


class TlsConfig(Section):
    """TLS by the DICOM profiles (PS3.15 B.9, B.10); all paths are PEM files, read again when they change."""

    certificate: Path = Field(description="own certificate chain")
    private_key: Path = Field(description="own private key, readable by the service account only")
    ca: Path = Field(description="authorities that the peer's certificate must come from")
    revoked: Path | None = Field(
        None, description="revocation lists of those authorities; when they have run out, nobody is let in"
    )
    profile: Literal["bcp195", "bcp195-non-downgrading"] = Field(
        "bcp195-non-downgrading", description="bcp195 also takes the CBC suites of older peers"
    )


class CallerConfig(Section):
    """A calling AE title that may open associations, and the addresses that it may come from."""

    ae_title: AE = Field(description="calling AE title; * stands for any characters, ? for one")
    addresses: tuple[str, ...] = Field(("127.0.0.0/8", "::1/128"), description="addresses or networks in CIDR notation")
    commitment_port: Port | None = Field(
        None, description="its port for Storage Commitment reports; none: they go on the association that asked"
    )

    site: str | None = Field(
        None, pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="callers of one site take turns together; none: by address"
    )
    services: tuple[Service, ...] = Field(("echo", "store", "commitment"), description="what it may do")
    certificate: str | None = Field(
        None,
        description="with tls: common name, subject, alternative name or SHA-256 of its certificate; none: any of ca",
    )

    @field_validator("certificate")
    @classmethod
    def _fingerprint(cls, value: str | None) -> str | None:
        if value is not None and re.fullmatch(r"([0-9A-Fa-f]{2}:){31}[0-9A-Fa-f]{2}", value):
            return value.replace(":", "")
        return value

    @field_validator("addresses")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        networks = tuple(part for entry in value for part in re.split(r"[,;\s]+", entry.strip()) if part)
        if not networks:
            raise ValueError("names no address")
        for network in networks:
            ipaddress.ip_network(network, strict=False)
        return networks


class SiteConfig(Section):
    """What one site may take of the node, whichever receiver it calls: above it images are refused with 0xA700."""

    name: str = Field(description="as in callers[].site")
    max_gb: float | None = Field(None, gt=0, description="received from it in twelve hours; none: no quota")
    max_queued: int | None = Field(None, ge=1, description="its jobs that wait for a worker; none: no quota")


class ReceiveConfig(Section):
    """The Storage SCP and series assembly."""

    address: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 for every interface")
    port: Port = Field(11112, description="TCP port")
    callers: tuple[CallerConfig, ...] = Field(
        (CallerConfig(ae_title="*"),), description="who may open associations; by default any AE title from loopback"
    )
    sites: tuple[SiteConfig, ...] = Field((), description="quotas of the sites that callers belong to")
    check_called_ae_title: bool = Field(True, description="reject associations that call another AE title")
    also_called: tuple[AE, ...] = Field((), description="further AE titles that this node answers to")
    tls: TlsConfig | None = Field(None, description="none: plain TCP")
    any_storage_class: bool = Field(
        True, description="accept storage classes that nobody knows, private ones too, and set them aside"
    )
    max_associations: int = Field(64, ge=1, description="associations at the same time")
    max_associations_per_peer: int = Field(16, ge=1, description="associations at the same time from one address")
    acse_timeout_s: float = Field(10, gt=0, description="an association request must arrive within")
    dimse_timeout_s: float = Field(
        60, gt=0, description="a started message is cut off after such a silence, or at less than 32 KB/s"
    )
    idle_timeout_s: float = Field(120, gt=0, description="a silent association is aborted after")
    max_instance_mb: int = Field(2048, ge=1, description="a larger instance is refused")
    fast_path: bool = Field(True, description="serve C-STORE on the direct route; false: pynetdicom's ordinary route")
    grace_s: float = Field(1, ge=0, description="silence after the release that completes an evenly spaced stack")
    quiet_period_s: float = Field(10, gt=0, description="silence after which a series counts as whole")
    one_series_per_study: bool = Field(True, description="analyse the first eligible series of a study only")
    urgent_rule: dict[str, str] = Field(
        default_factory=dict, description="DICOM keyword: regular expression; a match is analysed before all others"
    )

    @model_validator(mode="after")
    def _certificates(self) -> ReceiveConfig:
        if self.tls is None and any(caller.certificate for caller in self.callers):
            raise ValueError("callers are bound to certificates, but there is no tls")
        return self

    @model_validator(mode="after")
    def _known_sites(self) -> ReceiveConfig:
        names = [site.name for site in self.sites]
        if len(set(names)) != len(names):
            raise ValueError("two sites have the same name")
        for name in names:
            if name not in {caller.site for caller in self.callers}:
                raise ValueError(f"sites: no caller is of site {name}")
        return self

    @field_validator("urgent_rule")
    @classmethod
    def _rules(cls, value: dict[str, str]) -> dict[str, str]:
        for keyword, pattern in value.items():
            if tag_for_keyword(keyword) is None:
                raise ValueError(f"{keyword} is no DICOM keyword")
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{keyword}: not a regular expression: {error}") from error
        return value


class TritonConfig(Section):
    """NVIDIA Triton Inference Server, where infer.engine is triton."""

    address: str = Field("127.0.0.1:8001", pattern=r"^[^\s/]+:[0-9]+$", description="host:port of its gRPC service")
    ca: Path | None = Field(None, description="authorities of its certificate; none: no TLS")
    timeout_s: float = Field(60, gt=0, description="an answer to 32 slices must come within")


class InferConfig(Section):
    """The worker."""

    bundle: Path | None = Field(None, description="folder with ich.onnx and ich.yaml; none: the shipped bundle")
    engine: Literal["onnxruntime", "triton"] = Field(
        "onnxruntime", description="in this process, or a Triton server that several workers share"
    )
    triton: TritonConfig = TritonConfig()
    provider: Literal["auto", "cuda", "cpu"] = Field("auto", description="auto takes CUDA when it really runs")
    threads: int = Field(
        0, ge=0, description="CPU threads of ONNX Runtime; 0: all cores that affinity and control group allow"
    )
    max_attempts: int = Field(3, ge=1, description="attempts before a job fails")
    retry_base_s: float = Field(30, gt=0, description="wait before the second attempt; doubles each time")


class ReportConfig(Section):
    """What goes back."""

    language: Literal["en", "de"] = Field("en", description="language of text that people read; codes stay codes")
    pictures: Literal["key", "all"] = Field(
        "key", description="overlays of the key slices, or of all (one every 5 mm where slices are thin)"
    )
    multi_frame: bool = Field(False, description="also send the overlays as one multi-frame secondary capture")
    parametric_map: bool = Field(False, description="also send the activation map as a Parametric Map")
    presentation_state: bool = Field(False, description="also send a Grayscale Softcopy Presentation State")
    series_number_base: int = Field(9000, ge=1, le=90000, description="series numbers of the results start here")


Objects = Annotated[tuple[Literal["pictures", "structured_report", "text_report"], ...], Field(min_length=1)]


def _host(value: str) -> str:
    """A host name or address alone; ValueError when a port or a scheme stands beside it."""
    if re.search(r"[\s/@]", value):
        raise ValueError(f"a host name or address alone, without a scheme or a path: {value!r}")
    if value.count(":") == 1:
        name, _, port = value.partition(":")
        raise ValueError(f"a host name or address alone: write host: {name} and port: {port}")
    return value


class RouteConfig(Section):
    """What every destination has, of whatever kind."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="name in logs and commands")
    priorities: tuple[Literal["STAT", "HIGH", "ROUTINE", "NOT_ANALYSED"], ...] = Field(
        ("STAT", "HIGH", "ROUTINE", "NOT_ANALYSED"),
        min_length=1,
        description="it gets results of these priorities only",
    )
    senders: tuple[str, ...] = Field(
        ("*",),
        min_length=1,
        description="it gets results of studies from these calling AE titles only; * and ? as in callers",
    )


class PeerConfig(RouteConfig):
    """A destination at a host and port."""

    host: Annotated[str, AfterValidator(_host)] = Field(min_length=1, description="host name or address")
    tls: TlsConfig | None = Field(None, description="none: plain TCP")
    tls_server_name: str | None = Field(None, description="name in the certificate; none: the host")
    tls_fingerprint: str | None = Field(
        None, pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the certificate; none: any of the authorities"
    )


class DestinationConfig(PeerConfig):
    """A PACS that gets the results."""

    ae_title: AE = Field(description="called AE title")
    port: Port = Field(104, description="TCP port")
    objects: Objects = Field(("pictures", "structured_report", "text_report"), description="it gets these objects only")
    commitment: bool = Field(False, description="ask for Storage Commitment and count an instance as safe only then")
    commitment_ae_title: AE | None = Field(None, description="AE title to ask for it; none: the called AE title")
    commitment_port: Port | None = Field(None, description="TCP port to ask for it; none: the port above")


class Hl7Config(PeerConfig):
    """A listener for HL7 v2.5.1 ORU^R01 over MLLP."""

    port: Port = Field(2575, description="TCP port of the listener")
    sending_application: str = Field("ICHNODE", description="MSH-3")
    sending_facility: str = Field("", description="MSH-4")
    receiving_application: str = Field("", description="MSH-5")
    receiving_facility: str = Field("", description="MSH-6")
    charset: Literal["UNICODE UTF-8", "8859/1", "ASCII"] = Field(
        "UNICODE UTF-8", description="MSH-18; a message that it cannot hold goes as UNICODE UTF-8"
    )
    mode: Literal["original", "enhanced"] = Field("original", description="acknowledgement mode: AA/AE/AR or CA/CE/CR")
    status: Literal["P", "F"] = Field("P", description="OBR-25 and OBX-11: preliminary or final; corrected ones are C")
    fields: dict[str, str] = Field(
        default_factory=dict, description='more fields, or others: OBR-18: "{AccessionNumber}"; {JobID} too'
    )
    abnormal_flags: dict[Literal["STAT", "HIGH", "ROUTINE"], str] = Field(
        default_factory=dict, description="OBX-8 by priority; AA, A and N unless told otherwise"
    )
    link: str | None = Field(None, description="a link to show, e.g. to the board; DICOM keywords in braces")


Url = Annotated[str, Field(pattern=r"^https?://[^\s/]+(/\S*)?$")]


class WebhookConfig(RouteConfig):
    """A URL that gets a signed JSON message for every result."""

    url: Url = Field(description="where the message is posted")
    secrets: tuple[Path, ...] = Field(
        min_length=1, description="files with a whsec_ secret each, newest first; two while a secret is rotated"
    )
    patient_data: bool = Field(False, description="send Patient ID, name, birth date, sex and Accession Number too")
    tls: TlsConfig | None = Field(None, description="none: no client certificate, and the authorities of the system")


class DicomWebConfig(RouteConfig):
    """An archive that takes the results by STOW-RS."""

    url: Url = Field(description="the DICOMweb root, to which /studies is added")
    token: Path | None = Field(None, description="file with a bearer token; none: no token")
    tls: TlsConfig | None = Field(None, description="none: no client certificate, and the authorities of the system")
    objects: Objects = Field(("pictures", "structured_report", "text_report"), description="it gets these objects only")


class DeliverConfig(Section):
    """The sender."""

    destinations: tuple[DestinationConfig, ...] = Field((), description="every result goes to each of them")
    hl7: tuple[Hl7Config, ...] = Field((), description="HL7 listeners that get a message for every result")
    webhooks: tuple[WebhookConfig, ...] = Field((), description="URLs that get a signed JSON message for every result")
    dicomweb: tuple[DicomWebConfig, ...] = Field((), description="archives that get every result by STOW-RS")
    retry_base_s: float = Field(5, gt=0, description="first wait after a transient failure; doubles, with jitter")
    retry_max_s: float = Field(900, gt=0, description="longest wait between two attempts")
    give_up_after_h: float = Field(72, gt=0, description="a transient failure counts as final after")
    connect_timeout_s: float = Field(10, gt=0, description="TCP connection within")
    dimse_timeout_s: float = Field(60, gt=0, description="response within")
    linger_s: float = Field(2, ge=0, description="an idle association is kept open for further results")
    commitment_timeout_s: float = Field(3600, gt=0, description="a commitment report must arrive within")

    @property
    def everywhere(self) -> tuple[RouteConfig, ...]:
        """Every destination, of whatever kind; messages first, for they are what is waited for."""
        return (*self.hl7, *self.webhooks, *self.destinations, *self.dicomweb)

    @model_validator(mode="after")
    def _unique(self) -> DeliverConfig:
        names = [destination.name for destination in self.everywhere]
        if len(set(names)) != len(names):
            raise ValueError("two destinations have the same name")
        return self


class StoreConfig(Section):
    """Disk and database."""

    state_dir: Path | None = Field(
        None, description="spool and database; none: /var/lib/ich_node as root, else the user's state directory"
    )
    database: str | None = Field(
        None,
        pattern="^postgresql://",
        description="URL of a PostgreSQL ledger, postgresql://… without a password; none: a file in state_dir",
    )
    shared: bool = Field(
        False, description="several machines share state_dir and database: receivers, workers and senders on each"
    )
    min_free_gb: float = Field(5, gt=0, description="below this much free space instances are refused with 0xA700")
    keep_days: float = Field(14, gt=0, description="finished series and results are kept for")
    max_used_gb: float | None = Field(None, gt=0, description="oldest finished go first above this; none: no quota")

    @model_validator(mode="after")
    def _one_ledger(self) -> StoreConfig:
        if self.shared and self.database is None:
            raise ValueError("shared: several machines need one ledger, store.database; a file serves one machine")
        return self


class BoardConfig(Section):
    """The triage board (`ich-node board`): a web page for readers and operators."""

    address: str = Field("127.0.0.1", description="address that the board listens on; TLS is a reverse proxy's")
    port: Port = Field(8090, description="TCP port of the board")
    users: Path | None = Field(None, description="file of users (ich-node board --add NAME); none: no names are shown")
    proxy_secret: Path | None = Field(None, description="file with the secret of a reverse proxy that signs people in")
    proxy_user_header: str = Field("X-Remote-User", description="header with the name of whom the proxy signed in")
    proxy_role_header: str = Field("X-Remote-Role", description="header with the role: reader or operator")


class AuditConfig(Section):
    """Audit trail by PS3.15 A.5 to a syslog receiver; off without a host."""

    host: str | None = Field(None, description="syslog host; none: no audit trail")
    port: Port = Field(514, description="514 for UDP, 6514 for TLS")
    transport: Literal["udp", "tls"] = Field("udp", description="RFC 5426 or RFC 5425")
    ca: Path | None = Field(None, description="authorities of the syslog receiver's certificate (tls)")
    source_id: str = Field("ich-node", description="AuditSourceID: this system in the enterprise")


class LogConfig(Section):
    """Logs."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="least severe level written")


class Config(Section):
    """The whole configuration; see config/ich_node.yaml."""

    ae_title: AE = Field("ICHNODE", description="own AE title")
    receive: ReceiveConfig = ReceiveConfig()
    infer: InferConfig = InferConfig()
    report: ReportConfig = ReportConfig()
    deliver: DeliverConfig = DeliverConfig()
    store: StoreConfig = StoreConfig()
    board: BoardConfig = BoardConfig()
    audit: AuditConfig = AuditConfig()
    log: LogConfig = LogConfig()

    @model_validator(mode="after")
    def _grace_within_quiet(self) -> Config:
        if self.receive.grace_s > self.receive.quiet_period_s:
            raise ValueError("receive.grace_s is longer than receive.quiet_period_s")
        return self

    @model_validator(mode="after")
    def _sends_to_others(self) -> Config:
        """A node that is its own destination takes its results for delivered, and nobody sees them."""
        for to in self.deliver.destinations:
            if to.host in LOOPBACK and to.port == self.receive.port:
                raise ValueError(f"deliver.destinations: {to.name} is this node itself (receive.port)")
        return self

    @property
    def state_dir(self) -> Path:
        """Where spool and database live."""
        if self.store.state_dir is not None:
            return self.store.state_dir
        if os.geteuid() == 0:
            return Path("/var/lib/ich_node")
        return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "ich_node"

    @property
    def bundle_dir(self) -> Path:
        """The model bundle: configured, else beside a checkout, else where pip has put it."""
        if self.infer.bundle is not None:
            return self.infer.bundle
        return default_bundle()


def default_bundle() -> Path:
    """The bundle that ships with ich_node."""
    beside = PACKAGE_ROOT.parent / "onnx"
    return beside if (beside / "ich.yaml").exists() else Path(sys.prefix) / "share/ich_node/onnx"


def load(path: Path) -> Config:
    """Read a configuration file; raises ConfigError with every problem in it."""
    return parse(yaml_file.read(path), base=path.resolve().parent)


def parse(data: dict[str, Any], base: Path) -> Config:
    """Check a configuration that is already a mapping; relative paths are taken from `base`."""
    try:
        config = Config.model_validate(_without_empty_sections(data))
    except ValidationError as error:
        raise ConfigError([_plain(problem) for problem in error.errors()]) from error
    anchored: Config = _anchored(config, base)
    return anchored


def _without_empty_sections(data: dict[str, Any]) -> dict[str, Any]:
    """`deliver:` with every key commented out reads as None; it means the defaults."""
    sections = {name for name, field in Config.model_fields.items() if _section(field.annotation)}
    return {key: {} if value is None and key in sections else value for key, value in data.items()}


def _plain(problem: Any) -> str:
    """One problem in plain words, with its key path and, for an unknown key, the nearest known one."""
    location = ".".join(str(part) for part in problem["loc"]) or "configuration"
    if problem["type"] != "extra_forbidden":
        return f"{location}: {problem['msg'].removeprefix('Value error, ')}"
    near = difflib.get_close_matches(str(problem["loc"][-1]), _known_keys(problem["loc"][:-1]), n=1, cutoff=0.5)
    return f"{location}: unknown key" + (f"; did you mean {near[0]}?" if near else "")


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    section: type[BaseModel] = Config
    for part in location:
        if isinstance(part, str) and part in section.model_fields:
            section = _section(section.model_fields[part].annotation) or section
    return list(section.model_fields)


def _section(annotation: Any) -> type[BaseModel] | None:
    """The Section inside `Section`, `Section | None` or `tuple[Section, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _section(inner))), None)


def _anchored(section: Any, base: Path) -> Any:
    """The same section with relative paths made absolute."""
    changes: dict[str, Any] = {}
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, Path):
            changes[name] = base / value.expanduser()
        elif isinstance(value, BaseModel):
            changes[name] = _anchored(value, base)
        elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
            changes[name] = tuple(_anchored(item, base) for item in value)
    return section.model_copy(update=changes)
