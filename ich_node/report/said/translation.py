"""Reasons and warnings, which other parts of the node write in English, in the language that people chose.

A sentence that has no translation stays as it is: a reader is better served by English than by nothing.
"""

from __future__ import annotations

import re

from ich_node.report.said.wording import Language

GERMAN: tuple[tuple[str, str], ...] = (
    # eligibility
    (r"only (\d+) slices, at least (\d+) are needed", r"nur \1 Schichten, mindestens \2 sind nötig"),
    (r"the slices are ([\d.]+) mm apart, more than (\S+) mm", r"der Schichtabstand ist \1 mm, mehr als \2 mm"),
    (
        r"the slices cover (\d+) mm, less than a head \((\d+) mm\)",
        r"die Schichten decken \1 mm ab, weniger als ein Kopf (\2 mm)",
    ),
    (
        r"the slices cover (\d+) mm, more than a head \((\d+) mm\)",
        r"die Schichten decken \1 mm ab, mehr als ein Kopf (\2 mm)",
    ),
    (r"slices are missing: a gap of (\d+) mm", r"es fehlen Schichten: eine Lücke von \1 mm"),
    (r"a header can not be read", r"ein Header ist nicht lesbar"),
    (r"not axial: a reformat in another plane", r"nicht axial: eine Rekonstruktion in anderer Ebene"),
    (r"not the CT slices themselves: (.+)", r"nicht die CT-Schichten selbst: \1"),
    (r"one position over time: bolus tracking", r"eine Position im Zeitverlauf: Bolus-Tracking"),
    (r"the header names a contrast agent", r"der Header nennt ein Kontrastmittel"),
    (r"the header records a contrast agent", r"der Header verzeichnet ein Kontrastmittel"),
    (
        r"the series description speaks of contrast or angiography \((.+)\)",
        r"die Serienbeschreibung spricht von Kontrastmittel oder Angiographie (\1)",
    ),
    (r"a sharp kernel \((.+)\) was used", r"ein harter Faltungskern (\1) wurde benutzt"),
    (
        r"the series description speaks of a sharp kernel \((.+)\)",
        r"die Serienbeschreibung spricht von einem harten Kern (\1)",
    ),
    (r"the slices are (\S+) mm thick, more than (\S+) mm", r"die Schichten sind \1 mm dick, mehr als \2 mm"),
    (
        r"the values are mapped by a Modality LUT, not by a rescale to Hounsfield units",
        r"die Werte werden durch eine Modality LUT abgebildet, nicht in Hounsfield-Einheiten umgerechnet",
    ),
    (r"no rescale to Hounsfield units", r"keine Umrechnung in Hounsfield-Einheiten"),
    (
        r"the header says that the values are not Hounsfield units",
        r"laut Header sind die Werte keine Hounsfield-Einheiten",
    ),
    # gates
    (
        r"the values are not Hounsfield units: there is no air around the head",
        r"die Werte sind keine Hounsfield-Einheiten: um den Kopf ist keine Luft",
    ),
    (r"the values are too coarse for Hounsfield units", r"die Werte sind zu grob für Hounsfield-Einheiten"),
    (r"no skull with a brain inside was found", r"kein Schädel mit Gehirn gefunden"),
    (
        r"the values are not Hounsfield units: the brain has a median of (\S+)",
        r"die Werte sind keine Hounsfield-Einheiten: der Median des Gehirns ist \1",
    ),
    (
        r"the vessels are bright: a contrast agent seems to have been given",
        r"die Gefäße sind hell: offenbar wurde Kontrastmittel gegeben",
    ),
    (r"the noise is that of a sharp kernel \((\d+) HU\)", r"das Rauschen ist das eines harten Faltungskerns (\1 HU)"),
    (
        r"the skull is closed in few slices \(craniectomy\?\)",
        r"der Schädel ist in wenigen Schichten geschlossen (Kraniektomie?)",
    ),
    (
        r"metal inside the skull: streaks may hide or imitate a hemorrhage",
        r"Metall im Schädel: Artefakte können eine Blutung verdecken oder vortäuschen",
    ),
    # geometry
    (r"gantry tilt of (\S+)°", r"Gantry-Kippung von \1°"),
    (r"gap of (\d+) mm between slices (\d+) and (\d+)", r"Lücke von \1 mm zwischen den Schichten \2 und \3"),
    (
        r"the distance between slices varies from (\S+) to (\S+) mm",
        r"der Schichtabstand schwankt zwischen \1 und \2 mm",
    ),
    (r"slices are displaced sideways by up to (\d+) mm", r"Schichten sind seitlich um bis zu \1 mm versetzt"),
    (r"the images have no Frame of Reference", r"die Bilder haben kein Bezugssystem (Frame of Reference)"),
    (r"no slice says where it lies", r"keine Schicht sagt, wo sie liegt"),
    (r"the image position or orientation can not be read", r"Bildposition oder -orientierung sind nicht lesbar"),
    (r"(\d+) image(?:s)? left out: (.+)", r"\1 Bild(er) weggelassen: \2"),
    # pixels, worker
    (r"the pixel data can not be decoded", r"die Pixeldaten sind nicht dekodierbar"),
    (r"the pixel data is cut off", r"die Pixeldaten sind abgeschnitten"),
    (r"there is no pixel data", r"es gibt keine Pixeldaten"),
    (r"not a readable DICOM file", r"keine lesbare DICOM-Datei"),
    (r"the analysis failed (\d+) times: (.+)", r"die Analyse ist \1-mal fehlgeschlagen: \2"),
)
"""English pattern (matched as a whole) and German text with its groups."""


def translated(text: str, language: Language) -> str:
    """`text`, which is English, in `language` where a translation is known."""
    if language == "de":
        for pattern, german in GERMAN:
            if match := re.fullmatch(pattern, text):
                return match.expand(german)
    return text
