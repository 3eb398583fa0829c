"""The words of the board in every language; a word that is missing in one of them does not type-check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ich_node.domain.reasons import Reason, Why
from ich_node.report.said.reasons import said
from ich_node.report.said.wording import WORDINGS


class Moved(Protocol):
    """A sum of drift.py, or its alarm."""

    @property
    def kind(self) -> str:
        """A key of `moves`."""

    @property
    def detail(self) -> str:
        """What stands in the braces."""


@dataclass(frozen=True, slots=True)
class Words:
    """Everything that the pages say. Priorities and DICOM terms stay as they are."""

    code: str
    title: str
    disclaimer: str
    studies: str
    operations: str
    sign_in: str
    sign_out: str
    name: str
    password: str
    wrong_sign_in: str
    too_many: str
    search: str
    all_studies: str
    waiting_for_reader: str
    not_analysed: str
    failed: str
    analysing: str
    queued: str
    superseded: str
    answered: str
    received: str
    waiting: str
    finding: str
    side: str
    probability: str
    place: str
    results_at: str
    no_studies: str
    no_finding: str
    why_not: str
    brain: str
    subdural: str
    bone: str
    map_on: str
    key_slices: str
    slice_number: str
    timeline: str
    images_received: str
    analysis_finished: str
    delivered_to: str
    waits_for: str
    refused_by: str
    corrects: str
    corrected_by: str
    feedback: str
    agree: str
    disagree: str
    unsure: str
    comment: str
    send: str
    thanks: str
    given_by: str
    redo: str
    resend: str
    export: str
    sound: str
    notify: str
    help: str
    keys: str
    queue: str
    oldest: str
    disk_free: str
    nothing_waits: str
    destinations: str
    per_day: str
    gates: str
    provider: str
    live: str
    not_live: str
    new_stat: str
    sign_in_for_names: str
    labels: Mapping[str, str]
    sides: Mapping[str, str]
    drift: str
    drift_reference: str
    drift_growing: str
    drift_alarm: str
    drift_recent: str
    drift_level: str
    drift_new: str
    month_title: str
    month_before: str
    month_time: str
    month_median: str
    month_scanners: str
    month_readers: str
    month_still: str
    month_note: str
    moves: Mapping[str, str]

    def moved(self, share: Moved) -> str:
        """What a sum of drift.py is about."""
        return self.moves[share.kind].format(share.detail)

    def site(self, name: str) -> str:
        """A place out of domain.SITES, as the reports name it."""
        return WORDINGS["de" if self.code == "de" else "en"].sites.get(name, name)

    def reason(self, text: str, code: str | None) -> str:
        """A reason in this language where its words need no values; else as the ledger has it."""
        if self.code == "en" or code not in set(Why) or Why(code).fields:
            return text
        return said(Reason(Why(code)), "de")


EN = Words(
    code="en",
    title="Triage board",
    disclaimer="AI research result, not for diagnosis",
    studies="Studies",
    operations="Operations",
    sign_in="Sign in",
    sign_out="Sign out",
    name="Name",
    password="Password",  # noqa: S106 — a label
    wrong_sign_in="Name and password do not fit.",
    too_many="Too many attempts. Wait a moment.",
    search="Search accession, name, ID or UID",
    all_studies="All",
    waiting_for_reader="Not reviewed",
    not_analysed="Not analysed",
    failed="Failed",
    analysing="Analysing",
    queued="Queued",
    superseded="superseded",
    answered="Answered",
    received="Received",
    waiting="Waiting",
    finding="Finding",
    side="Side",
    probability="Probability",
    place="Place",
    results_at="Results at",
    no_studies="No study fits.",
    no_finding="No hemorrhage suspected",
    why_not="Why it was not analysed",
    brain="Brain",
    subdural="Subdural",
    bone="Bone",
    map_on="Map",
    key_slices="Key slices",
    slice_number="Slice (1 = lowest)",
    timeline="Timeline",
    images_received="images received",
    analysis_finished="analysis finished",
    delivered_to="delivered to",
    waits_for="waits for",
    refused_by="refused by",
    corrects="Corrects",
    corrected_by="Corrected by",
    feedback="Your reading",
    agree="Agree",
    disagree="Disagree",
    unsure="Unsure",
    comment="Comment (no patient data)",
    send="Save",
    thanks="Saved.",
    given_by="Given by",
    redo="Analyse again",
    resend="Send again",
    export="Feedback as CSV",
    sound="Sound",
    notify="Notification",
    help="Keys",
    keys="j k: next, previous · Enter: open · /: search · 1 2 3: window · m: map · n p: key slices · u: back",
    queue="Queue",
    oldest="oldest waits",
    disk_free="Free on disk",
    nothing_waits="Nothing waits",
    destinations="Destinations",
    per_day="Studies a day",
    gates="Not analysed, by reason",
    provider="Provider",
    live="live",
    not_live="connection lost",
    new_stat="New STAT study",
    sign_in_for_names="Patient names are shown to those who signed in.",
    labels={
        "any": "hemorrhage",
        "epidural": "epidural",
        "intraparenchymal": "intraparenchymal",
        "intraventricular": "intraventricular",
        "subarachnoid": "subarachnoid",
        "subdural": "subdural",
    },
    sides={"left": "left", "right": "right", "bilateral": "both sides", "midline": "midline"},
    drift="Drift",
    drift_reference="Reference",
    drift_growing="The reference is being collected; nothing is judged before it is whole",
    drift_alarm="has moved",
    drift_recent="Last 100",
    drift_level="Evidence",
    drift_new="New reference from now on",
    month_title="Head CT triage,",
    month_before="month before:",
    month_time="From the whole series to its answer",
    month_median="Median",
    month_scanners="Scanners and kernels",
    month_readers="Readers",
    month_still="Nothing has moved.",
    month_note="Counted are first answers; opinions are no ground truth (docs/intended-use.md).",
    moves={
        "positive_more": "more positive results",
        "positive_fewer": "fewer positive results",
        "score_higher": "higher scores",
        "score_lower": "lower scores",
        "brain_hu_above": "brain denser than {} HU",
        "brain_hu_below": "brain less dense than {} HU",
        "noise_hu_above": "noise above {} HU",
        "noise_hu_below": "noise below {} HU",
        "reason": "not analysed: {}",
        "reason_other": "not analysed: other reasons",
        "scanner": "from {}",
        "scanner_other": "from another scanner or kernel",
        "readers_disagree": "readers disagree",
    },
)

DE = Words(
    code="de",
    title="Triage-Tafel",
    disclaimer="KI-Forschungsergebnis, nicht zur Diagnose",
    studies="Studien",
    operations="Betrieb",
    sign_in="Anmelden",
    sign_out="Abmelden",
    name="Name",
    password="Kennwort",  # noqa: S106 — a label
    wrong_sign_in="Name und Kennwort passen nicht.",
    too_many="Zu viele Versuche. Bitte kurz warten.",
    search="Suche: Auftragsnummer, Name, ID oder UID",
    all_studies="Alle",
    waiting_for_reader="Nicht gesichtet",
    not_analysed="Nicht analysiert",
    failed="Gescheitert",
    analysing="In Analyse",
    queued="Wartet",
    superseded="ersetzt",
    answered="Beantwortet",
    received="Empfangen",
    waiting="Wartezeit",
    finding="Befund",
    side="Seite",
    probability="Wahrscheinlichkeit",
    place="Ort",
    results_at="Ergebnisse bei",
    no_studies="Keine Studie passt.",
    no_finding="Kein Verdacht auf Blutung",
    why_not="Warum nicht analysiert",
    brain="Hirn",
    subdural="Subdural",
    bone="Knochen",
    map_on="Karte",
    key_slices="Schlüsselschichten",
    slice_number="Schicht (1 = unterste)",
    timeline="Verlauf",
    images_received="Bilder empfangen",
    analysis_finished="Analyse fertig",
    delivered_to="zugestellt an",
    waits_for="wartet auf",
    refused_by="abgelehnt von",
    corrects="Korrigiert",
    corrected_by="Korrigiert durch",
    feedback="Ihre Einschätzung",
    agree="Stimmt",
    disagree="Stimmt nicht",
    unsure="Unsicher",
    comment="Bemerkung (keine Patientendaten)",
    send="Speichern",
    thanks="Gespeichert.",
    given_by="Von",
    redo="Neu analysieren",
    resend="Erneut senden",
    export="Einschätzungen als CSV",
    sound="Ton",
    notify="Meldung",
    help="Tasten",
    keys="j k: weiter, zurück · Enter: öffnen · /: suchen · 1 2 3: Fenster · m: Karte · n p: Schlüsselbild · u: Liste",
    queue="Warteschlange",
    oldest="älteste wartet",
    disk_free="Frei auf der Platte",
    nothing_waits="Nichts wartet",
    destinations="Ziele",
    per_day="Studien je Tag",
    gates="Nicht analysiert, nach Grund",
    provider="Rechenwerk",
    live="live",
    not_live="Verbindung verloren",
    new_stat="Neue STAT-Studie",
    sign_in_for_names="Patientennamen sehen nur Angemeldete.",
    labels={
        "any": "Blutung",
        "epidural": "epidural",
        "intraparenchymal": "intraparenchymal",
        "intraventricular": "intraventrikulär",
        "subarachnoid": "subarachnoidal",
        "subdural": "subdural",
    },
    sides={"left": "links", "right": "rechts", "bilateral": "beidseits", "midline": "Mittellinie"},
    drift="Drift",
    drift_reference="Referenz",
    drift_growing="Die Referenz wird gesammelt; vorher wird nicht geurteilt",
    drift_alarm="hat sich verschoben",
    drift_recent="Letzte 100",
    drift_level="Hinweise",
    drift_new="Ab jetzt neue Referenz",
    month_title="Triage der Schädel-CT,",
    month_before="Vormonat:",
    month_time="Von der ganzen Serie bis zur Antwort",
    month_median="Median",
    month_scanners="Scanner und Faltungskerne",
    month_readers="Befunder",
    month_still="Nichts hat sich verschoben.",
    month_note="Gezählt sind erste Antworten; Meinungen sind keine Wahrheit (docs/intended-use.md).",
    moves={
        "positive_more": "mehr positive Ergebnisse",
        "positive_fewer": "weniger positive Ergebnisse",
        "score_higher": "höhere Werte",
        "score_lower": "niedrigere Werte",
        "brain_hu_above": "Hirn dichter als {} HU",
        "brain_hu_below": "Hirn weniger dicht als {} HU",
        "noise_hu_above": "Rauschen über {} HU",
        "noise_hu_below": "Rauschen unter {} HU",
        "reason": "nicht analysiert: {}",
        "reason_other": "nicht analysiert: andere Gründe",
        "scanner": "von {}",
        "scanner_other": "von einem anderen Scanner oder Faltungskern",
        "readers_disagree": "Befunder widersprechen",
    },
)


def of(accept_language: str) -> Words:
    """The language that a browser prefers (RFC 9110 12.5.4), as far as there is one; else English."""
    for part in accept_language.lower().split(","):
        language = part.split(";")[0].strip()[:2]
        if language == "de":
            return DE
        if language == "en":
            return EN
    return EN
