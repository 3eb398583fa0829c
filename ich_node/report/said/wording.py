"""The sentences of the results, in every language that people can choose; content.py puts facts into them.

A language is one value of `Wording`, so that a sentence that is missing in one of them does not compile. Codes are not
translated, and `domain.DISCLAIMER` stands in every result as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ich_node.domain.findings import Laterality, Priority

Language = Literal["en", "de"]


@dataclass(frozen=True, slots=True)
class Wording:
    """Sentences of one language; {names} are filled in by content.py."""

    title: str
    percent: str
    decimal_point: str
    one_image: str
    several_images: str
    time: str
    labels: Mapping[str, str]
    suspected: str
    not_suspected: str
    not_suspected_in_part: str
    not_analysed: str
    because: str
    unanswered: str
    nothing_excluded: str
    no_priority: str
    type_unsure: str
    priority: str
    priorities: Mapping[Priority, str]
    present: str
    absent: str
    probability: str
    threshold: str
    sides: Mapping[Laterality, str]
    sites: Mapping[str, str]
    beside: str
    slices: str
    one_slice: str
    slice: str
    image: str
    frame: str
    strongest: str
    extent: str
    counted: str
    more_likely: str
    headings: tuple[str, str, str, str]
    activation: str
    model: str
    made: str
    corrections: Mapping[str, str]
    series: str
    looked_at: str
    possible: str
    instead: str
    uncertain: str
    either: str
    viewer: str
    more: str
    band: str
    below_bands: str
    measured: tuple[str, str, str]
    provider: str
    images: str
    unreviewed: str
    disclaimers: tuple[str, ...]


ENGLISH = Wording(
    percent="{number}%",
    decimal_point=".",
    one_image="1 image",
    several_images="{count} images",
    time="%Y-%m-%d %H:%M UTC%z",
    title="AI triage of head CT: intracranial hemorrhage",
    labels={
        "any": "Intracranial hemorrhage",
        "epidural": "Epidural",
        "intraparenchymal": "Intraparenchymal",
        "intraventricular": "Intraventricular",
        "subarachnoid": "Subarachnoid",
        "subdural": "Subdural",
    },
    suspected="Intracranial hemorrhage suspected",
    not_suspected="No hemorrhage suspected",
    not_suspected_in_part="No hemorrhage suspected in the part of the head that was scanned",
    not_analysed="NOT ANALYSED",
    because="{series}: because {reason}",
    unanswered="{series} NOT ANALYSED, because {reason}",
    nothing_excluded="This does not exclude a hemorrhage.",
    no_priority="This is not a negative result: read the study as if there were no AI.",
    type_unsure="The type is uncertain.",
    priority="Priority: {priority}",
    priorities={
        Priority.STAT: "read at once",
        Priority.HIGH: "read soon",
        Priority.ROUTINE: "usual order",
    },
    present="suspected",
    absent="not suspected",
    probability="probability {percent}",
    threshold="threshold {percent}",
    sides={
        Laterality.LEFT: "left",
        Laterality.RIGHT: "right",
        Laterality.BILATERAL: "both sides",
        Laterality.MIDLINE: "midline",
    },
    sites={},
    beside="near {site}",
    slices="slices {first}–{last} of {count}",
    one_slice="slice {first} of {count}",
    slice="slice {first}",
    image="image {number}",
    frame="frame {number}",
    strongest="strongest at {where}",
    extent="about {mm} mm across",
    counted="Slices are counted from the feet; a viewer's image number stands beside.",
    more_likely="Sites: the most likely first, approximate.",
    headings=("Type", "Probability", "Where", "Slice from the feet (image)"),
    activation="activation",
    model="Model {id} {version} (SHA-256 {sha256}), ich_node {node}",
    made="Result of {time}",
    corrections={
        "more images": "This result replaces the one of {earlier}: more images have arrived.",
        "again": "This result replaces the one of {earlier}: the same images were analysed again.",
    },
    series="Series {number}",
    looked_at="Read: {count} slices of {thickness} mm, {height} mm from foot to head end.",
    possible="not told apart",
    instead="The same blood might be {types} instead.",
    uncertain="It might be {types}.",
    either=" or ",
    viewer="(images {images} in the viewer)",
    more="! More warnings stand in the text report.",
    band="{priority} and above: from {threshold}, sensitivity {sensitivity}, specificity {specificity}",
    below_bands="{priority}: below {threshold}, as were {missed} of the hemorrhages",
    measured=(
        "Sens./spec. measured: ",
        "{priority} (≥{threshold}) {sensitivity}/{specificity}",
        "{priority} misses {missed}.",
    ),
    provider="Computed by {provider}",
    images="{count} images of series {number}",
    unreviewed="Not reviewed by a physician.",
    disclaimers=(
        "Probabilities are the model's. Outlines and sizes come from its activation map and are approximate.",
    ),
)

GERMAN = Wording(
    percent="{number} %",
    decimal_point=",",
    one_image="1 Bild",
    several_images="{count} Bilder",
    time="%d.%m.%Y %H:%M UTC%z",
    title="KI-Triage des Schädel-CT: intrakranielle Blutung",
    labels={
        "any": "Intrakranielle Blutung",
        "epidural": "Epidural",
        "intraparenchymal": "Intraparenchymal",
        "intraventricular": "Intraventrikulär",
        "subarachnoid": "Subarachnoidal",
        "subdural": "Subdural",
    },
    suspected="Verdacht auf intrakranielle Blutung",
    not_suspected="Kein Verdacht auf Blutung",
    not_suspected_in_part="Kein Verdacht auf Blutung im aufgenommenen Teil des Kopfes",
    not_analysed="NICHT ANALYSIERT",
    because="{series}: Grund: {reason}",
    unanswered="{series} NICHT ANALYSIERT, Grund: {reason}",
    nothing_excluded="Eine Blutung ist damit nicht ausgeschlossen.",
    no_priority="Das ist kein negatives Ergebnis: die Untersuchung lesen, als gäbe es keine KI.",
    type_unsure="Der Typ ist unsicher.",
    priority="Priorität: {priority}",
    priorities={
        Priority.STAT: "sofort befunden",
        Priority.HIGH: "bald befunden",
        Priority.ROUTINE: "übliche Reihenfolge",
    },
    present="Verdacht",
    absent="kein Verdacht",
    probability="Wahrscheinlichkeit {percent}",
    threshold="Schwelle {percent}",
    sides={
        Laterality.LEFT: "links",
        Laterality.RIGHT: "rechts",
        Laterality.BILATERAL: "beidseits",
        Laterality.MIDLINE: "Mittellinie",
    },
    sites={
        "frontal lobe": "Frontallappen",
        "parietal lobe": "Parietallappen",
        "temporal lobe": "Temporallappen",
        "occipital lobe": "Okzipitallappen",
        "cerebral hemisphere": "Großhirnhemisphäre",
        "deep grey matter": "tiefe graue Substanz",
        "lateral ventricle": "Seitenventrikel",
        "third ventricle": "dritter Ventrikel",
        "fourth ventricle": "vierter Ventrikel",
        "cerebellum": "Kleinhirn",
        "brain stem": "Hirnstamm",
        "supratentorial": "supratentoriell",
        "infratentorial": "infratentoriell",
    },
    beside="Bereich {site}",
    slices="Schichten {first}–{last} von {count}",
    one_slice="Schicht {first} von {count}",
    slice="Schicht {first}",
    image="Bild {number}",
    frame="Frame {number}",
    strongest="am stärksten in {where}",
    extent="etwa {mm} mm groß",
    counted="Schichten sind von den Füßen an gezählt; daneben steht die Bildnummer des Viewers.",
    more_likely="Orte: der wahrscheinlichste zuerst, ungefähr.",
    headings=("Typ", "Wahrscheinlichkeit", "Wo", "Schicht von unten (Bild)"),
    activation="Aktivierung",
    model="Modell {id} {version} (SHA-256 {sha256}), ich_node {node}",
    made="Ergebnis vom {time}",
    corrections={
        "more images": "Dieses Ergebnis ersetzt das vom {earlier}: es sind weitere Bilder eingetroffen.",
        "again": "Dieses Ergebnis ersetzt das vom {earlier}: dieselben Bilder wurden erneut analysiert.",
    },
    series="Serie {number}",
    looked_at="Gelesen: {count} Schichten von {thickness} mm, {height} mm vom Fuß- bis zum Kopfende.",
    possible="nicht unterschieden",
    instead="Dasselbe Blut könnte stattdessen {types} sein.",
    uncertain="Sie könnte {types} sein.",
    either=" oder ",
    viewer="(Bilder {images} im Viewer)",
    more="! Weitere Warnungen stehen im Textbericht.",
    band="{priority} und höher: ab {threshold}, Sensitivität {sensitivity}, Spezifität {specificity}",
    below_bands="{priority}: unter {threshold}, wie {missed} der Blutungen",
    measured=(
        "Sens./Spez. gemessen: ",
        "{priority} (≥{threshold}) {sensitivity}/{specificity}",
        "{priority} übersieht {missed}.",
    ),
    provider="Berechnet mit {provider}",
    images="{count} Bilder der Serie {number}",
    unreviewed="Nicht ärztlich geprüft.",
    disclaimers=(
        "KI-Forschungsergebnis, nicht zur Diagnose.",
        "Wahrscheinlichkeiten sind die des Modells. Umrisse und Größen stammen aus seiner Aktivierungskarte und sind "
        "ungefähr.",
    ),
)

WORDINGS: Mapping[str, Wording] = {"en": ENGLISH, "de": GERMAN}
