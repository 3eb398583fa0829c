"""The words of every reason and warning, in every language, and what to send instead.

`words_of` is the one table: a code without words, or words in one language only, do not type-check. A name in braces
is a value of the reason; `{count:images}` says how many images; decimals get the language's own point.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from ich_node.domain.reasons import Why


@dataclass(frozen=True, slots=True)
class Words:
    """A clause that completes "not analysed, because …" or is a warning of its own; `instead`: what to send."""

    en: str
    de: str
    instead: Words | None = None


AGAIN = Words("send the series again", "die Serie noch einmal senden")
SOFT = Words("send the reconstruction with a soft-tissue kernel", "die Rekonstruktion mit Weichteilkern senden")
PLAIN = Words("send the series without contrast medium", "die native Serie (ohne Kontrastmittel) senden")
WHOLE = Words(
    "send the whole head, from the skull base to the vertex",
    "den ganzen Kopf senden, von der Schädelbasis bis zum Scheitel",
)
THIN = Words("send axial slices of 5 mm or less", "axiale Schichten von höchstens 5 mm senden")
AXIAL = Words("send the axial slices of the head", "die axialen Schichten des Kopfes senden")
SCANNER = Words(
    "send the axial images as the scanner made them", "die axialen Bilder senden, wie der Scanner sie erzeugt hat"
)


def words_of(code: Why) -> Words:  # noqa: PLR0911, PLR0912, PLR0915  (a table, which mypy proves to be whole)
    """The words of a code."""
    match code:
        # no series for this node
        case Why.NO_IMAGES:
            return Words("there are no images", "es gibt keine Bilder")
        case Why.NOT_CT:
            return Words("these are no CT images ({classes})", "das sind keine CT-Bilder ({classes})")
        case Why.OWN_RESULT:
            return Words("this is a result of this node", "das ist ein Ergebnis dieses Knotens")
        case Why.LOCALIZER:
            return Words("this is a localizer", "das ist ein Topogramm (Localizer)", AXIAL)
        case Why.NOT_AXIAL:
            return Words(
                "the images are a reformat in another plane", "die Bilder sind nicht axial rekonstruiert", AXIAL
            )
        case Why.NOT_THE_SLICES:
            return Words(
                "these are not the CT slices themselves but images made from them ({word})",
                "das sind nicht die CT-Schichten selbst, sondern daraus erzeugte Bilder ({word})",
                SCANNER,
            )
        case Why.BOLUS_TRACKING:
            return Words(
                "all images show one place over time (bolus tracking)",
                "alle Bilder zeigen eine Stelle im Zeitverlauf (Bolus-Tracking)",
            )
        case Why.OTHER_BODY_PART:
            return Words("this is no head but: {part}", "das ist kein Kopf, sondern: {part}")
        case Why.WIDE_FIELD:
            return Words(
                "nothing says that this is a head, and the field of view is {field_mm:.0f} mm",
                "nichts sagt, dass das ein Kopf ist, und das Bildfeld misst {field_mm:.0f} mm",
            )
        case Why.SEVERAL_OWNERS:
            return Words(
                "images of more than one patient or study share this series",
                "in dieser Serie liegen Bilder von mehr als einem Patienten oder einer Untersuchung",
            )
        case Why.SEVERAL_SERIES:
            return Words("the images belong to several series", "die Bilder gehören zu mehreren Serien")
        case Why.OTHER_SERIES_ANALYSED:
            return Words(
                "another series of this study is analysed", "eine andere Serie dieser Untersuchung wird analysiert"
            )
        case Why.NOTHING_ADDED:
            return Words(
                "the series was answered before, and the images that have come since show no head",
                "die Serie wurde schon beantwortet, und die seither eingetroffenen Bilder zeigen keinen Kopf",
            )
        case Why.TOO_MANY_IMAGES:
            return Words("there are more than {limit} images", "es sind mehr als {limit} Bilder")

        case Why.SENT_AGAIN:
            return Words("these images were sent again", "diese Bilder wurden noch einmal gesendet")
        case Why.DISAGREES:
            return Words(
                "these images contradict those of another sender in the same series",
                "diese Bilder widersprechen denen eines anderen Absenders in derselben Serie",
            )
        case Why.HEADERS_TOO_LARGE:
            return Words("the image headers are too large", "die Bild-Header sind zu groß")
        case Why.NOT_JUDGED:
            return Words("looking at these images failed again and again", "diese Bilder ließen sich nicht prüfen")

        # what the node did not take
        case Why.REFUSED_FOR_SPACE:
            return Words(
                "images were refused for lack of space", "Bilder wurden aus Platzmangel nicht angenommen", AGAIN
            )
        case Why.IMAGES_REFUSED:
            return Words(
                "images of this series could not be taken", "Bilder dieser Serie konnten nicht angenommen werden", AGAIN
            )

        # the header
        case Why.HEADER_UNREADABLE:
            return Words("an image header cannot be read", "ein Bild-Header ist nicht lesbar", AGAIN)
        case Why.CONTRAST_NAMED | Why.CONTRAST_RECORDED:
            return Words(
                "contrast medium was given (so says the image header)",
                "es wurde Kontrastmittel gegeben (laut Bild-Header)",
                PLAIN,
            )
        case Why.CONTRAST_DESCRIBED:
            return Words(
                "contrast medium was given or this is an angiogram (series description: {word})",
                "es wurde Kontrastmittel gegeben oder das ist eine Angiographie (Serienbeschreibung: {word})",
                PLAIN,
            )
        case Why.SPECTRAL:
            return Words(
                "this is a spectral, subtracted or cone-beam reconstruction ({word}), whose values the model does not "
                "know",
                "das ist eine spektrale, subtrahierte oder Kegelstrahl-Rekonstruktion ({word}), deren Werte das Modell "
                "nicht kennt",
                Words(
                    "send the usual reconstruction of the plain scan",
                    "die übliche Rekonstruktion der nativen Aufnahme senden",
                ),
            )
        case Why.SHARP_KERNEL:
            return Words(
                "it is a reconstruction with a sharp kernel, as for bone: {kernel}",
                "es ist eine Rekonstruktion mit hartem Kern (Knochenkern): {kernel}",
                SOFT,
            )
        case Why.SHARP_DESCRIBED:
            return Words(
                "it is a reconstruction with a sharp kernel, as for bone (series description: {word})",
                "es ist eine Rekonstruktion mit hartem Kern (Knochenkern; Serienbeschreibung: {word})",
                SOFT,
            )
        case Why.THICK_SLICES:
            return Words(
                "the slices are {thickness_mm:g} mm thick, more than {limit_mm:g} mm",
                "die Schichten sind {thickness_mm:g} mm dick, mehr als {limit_mm:g} mm",
                THIN,
            )
        case Why.MODALITY_LUT:
            return Words(
                "the pixel values are mapped by a Modality LUT, not by a rescale to Hounsfield units",
                "die Pixelwerte werden durch eine Modality LUT abgebildet, nicht in Hounsfield-Einheiten umgerechnet",
                SCANNER,
            )
        case Why.NO_RESCALE:
            return Words(
                "there is no rescale to Hounsfield units", "es fehlt die Umrechnung in Hounsfield-Einheiten", SCANNER
            )
        case Why.RESCALE_UNREADABLE:
            return Words(
                "the rescale to Hounsfield units cannot be read",
                "die Umrechnung in Hounsfield-Einheiten ist nicht lesbar",
                SCANNER,
            )
        case Why.RESCALE_IMPOSSIBLE:
            return Words(
                "a rescale by {slope:g} and {intercept:g} does not give Hounsfield units",
                "eine Umrechnung mit {slope:g} und {intercept:g} ergibt keine Hounsfield-Einheiten",
                SCANNER,
            )
        case Why.NOT_HOUNSFIELD:
            return Words(
                "the pixel values are not Hounsfield units (so says the image header)",
                "die Pixelwerte sind keine Hounsfield-Einheiten (laut Bild-Header)",
                SCANNER,
            )

        # where the slices lie
        case Why.NO_POSITION:
            return Words("no image says where it lies", "kein Bild sagt, wo es liegt", SCANNER)
        case Why.ATTRIBUTE_MISSING:
            return Words("{attribute} is missing", "{attribute} fehlt", SCANNER)
        case Why.ATTRIBUTE_IMPOSSIBLE:
            return Words("{attribute} has impossible values", "{attribute} hat unmögliche Werte", SCANNER)
        case Why.NOT_PERPENDICULAR:
            return Words(
                "Image Orientation (Patient) is not a pair of perpendicular unit vectors",
                "Image Orientation (Patient) ist kein Paar senkrechter Einheitsvektoren",
                SCANNER,
            )
        case Why.PIXEL_SPACING:
            return Words(
                "the pixels are not those of a CT image: {rows_mm:g} × {columns_mm:g} mm",
                "die Pixel sind nicht die eines CT-Bilds: {rows_mm:g} × {columns_mm:g} mm",
                SCANNER,
            )
        case Why.TOO_MANY_GROUPS:
            return Words(
                "the images have more than {limit} different orientations or sizes",
                "die Bilder haben mehr als {limit} verschiedene Orientierungen oder Größen",
                AXIAL,
            )
        case Why.TOO_FEW_SLICES:
            return Words(
                "there are only {count} slices, at least {needed} are needed",
                "es sind nur {count} Schichten, mindestens {needed} sind nötig",
                WHOLE,
            )
        case Why.FAR_APART:
            return Words(
                "the slices are {spacing_mm:.1f} mm apart, more than {limit_mm:g} mm",
                "der Schichtabstand ist {spacing_mm:.1f} mm, mehr als {limit_mm:g} mm",
                THIN,
            )
        case Why.COVERS_TOO_LITTLE:
            return Words(
                "the slices cover {coverage_mm:.0f} mm, less than a head ({needed_mm:.0f} mm)",
                "die Schichten decken {coverage_mm:.0f} mm ab, weniger als ein Kopf ({needed_mm:.0f} mm)",
                WHOLE,
            )
        case Why.COVERS_TOO_MUCH:
            return Words(
                "the slices cover {coverage_mm:.0f} mm, more than a head ({limit_mm:.0f} mm)",
                "die Schichten decken {coverage_mm:.0f} mm ab, mehr als ein Kopf ({limit_mm:.0f} mm)",
                Words("send the head as a series of its own", "den Kopf als eigene Serie senden"),
            )
        case Why.SLICES_MISSING:
            return Words(
                "slices are missing: a gap of {gap_mm:.0f} mm",
                "es fehlen Schichten: eine Lücke von {gap_mm:.0f} mm",
                AGAIN,
            )
        case Why.CONTRADICTORY_ELEMENTS:
            return Words(
                "header elements of the wrong kind were left out: {keywords}",
                "Kopfelemente der falschen Art wurden weggelassen: {keywords}",
            )
        case Why.GAP:
            return Words(
                "gap of {missing_mm:.0f} mm between slices {below} and {above}",
                "Lücke von {missing_mm:.0f} mm zwischen den Schichten {below} und {above}",
            )
        case Why.GAPS:
            return Words(
                "{missing_mm:.0f} mm of the head were not looked at: slices are missing (gaps: {count})",
                "{missing_mm:.0f} mm des Kopfes wurden nicht beurteilt: es fehlen Schichten (Lücken: {count})",
                AGAIN,
            )
        case Why.THICK_PART:
            return Words(
                "some slices are {thickness_mm:g} mm thick: thin blood may be averaged away in them",
                "einige Schichten sind {thickness_mm:g} mm dick: dünnes Blut kann darin herausgemittelt sein",
            )
        case Why.UNEVEN:
            return Words(
                "the distance between slices varies from {smallest_mm:.1f} to {largest_mm:.1f} mm",
                "der Schichtabstand schwankt zwischen {smallest_mm:.1f} und {largest_mm:.1f} mm",
            )
        case Why.TILT:
            return Words("gantry tilt of {degrees:.0f}°", "Gantry-Kippung von {degrees:.0f}°")
        case Why.SIDEWAYS:
            return Words(
                "slices are displaced sideways by up to {sideways_mm:.0f} mm",
                "Schichten sind seitlich um bis zu {sideways_mm:.0f} mm versetzt",
            )
        case Why.SEVERAL_FRAMES_OF_REFERENCE:
            return Words(
                "the images name {count} different Frames of Reference: they were put in order by their positions",
                "die Bilder nennen {count} verschiedene Bezugssysteme (Frame of Reference): nach Positionen geordnet",
            )
        case Why.ONE_OF_SEVERAL:
            return Words(
                "the series holds {passes} scans of the same region; only one of them was analysed ({detail})",
                "die Serie enthält {passes} Aufnahmen derselben Region; nur eine davon wurde analysiert ({detail})",
            )
        case Why.SEVERAL_UNNAMED:
            return Words(
                "two or more scans share this series and nothing in the headers tells them apart: the one with the "
                "calmer images was analysed, {images:images} of others were not",
                "zwei oder mehr Aufnahmen teilen sich diese Serie, und nichts in den Headern unterscheidet sie: "
                "analysiert wurde die ruhigere, {images:images} anderer nicht",
            )
        case Why.INSEPARABLE:
            return Words(
                "several images lie at each place, and nothing tells them apart",
                "an jeder Stelle liegen mehrere Bilder, und nichts unterscheidet sie",
                Words("send every scan as a series of its own", "jede Aufnahme als eigene Serie senden"),
            )
        case Why.OVER_TIME:
            return Words(
                "the images show the same places over time (perfusion or bolus tracking)",
                "die Bilder zeigen dieselben Stellen im Zeitverlauf (Perfusion oder Bolus-Tracking)",
                PLAIN,
            )
        case Why.NO_FRAME_OF_REFERENCE:
            return Words(
                "the images have no Frame of Reference", "die Bilder haben kein Bezugssystem (Frame of Reference)"
            )

        # images left out of the stack
        case Why.LEFT_OUT:
            return Words("{count:images} left out: {because}", "{count:images} weggelassen: {because}")
        case Why.OTHER_ORIENTATION:
            return Words("another orientation", "andere Orientierung")
        case Why.OTHER_SIZE:
            return Words("another image size", "andere Bildgröße")
        case Why.OTHER_PIXEL_SPACING:
            return Words("another pixel spacing", "anderer Pixelabstand")
        case Why.OTHER_ACQUISITION:
            return Words("another acquisition of the same region", "eine andere Aufnahme derselben Region")
        case Why.SECOND_IMAGE:
            return Words("a second image at the same position", "ein zweites Bild an derselben Stelle")
        case Why.FAR_AWAY:
            return Words("far away from the other slices", "weit entfernt von den übrigen Schichten")
        case Why.ASIDE:
            return Words("beside the other slices, not above them", "neben den übrigen Schichten statt über ihnen")
        case Why.SAME_INSTANCE:
            return Words("the same instance", "dasselbe Bild")

        # files and stored pixels
        case Why.NOTHING_READABLE:
            return Words("not one file of the series can be read", "keine Datei der Serie ist lesbar", AGAIN)
        case Why.NOT_READABLE:
            return Words("not a readable DICOM file", "keine lesbare DICOM-Datei", AGAIN)
        case Why.NAMELESS:
            return Words(
                "a file does not say which image it is", "eine Datei sagt nicht, welches Bild sie ist", SCANNER
            )
        case Why.IMAGE_SIZE:
            return Words(
                "an image of {rows} × {columns} pixels is not a CT slice",
                "ein Bild von {rows} × {columns} Pixeln ist keine CT-Schicht",
                SCANNER,
            )
        case Why.IN_COLOUR:
            return Words("the image is in colour", "das Bild ist farbig", SCANNER)
        case Why.BITS:
            return Words(
                "{stored} of {allocated} bits per pixel are not understood",
                "{stored} von {allocated} Bits je Pixel werden nicht verstanden",
                SCANNER,
            )
        case Why.TRANSFER_SYNTAX:
            return Words(
                "the transfer syntax {uid} cannot be decoded",
                "die Transfersyntax {uid} ist nicht dekodierbar",
                Words("send the images uncompressed", "die Bilder unkomprimiert senden"),
            )
        case Why.PIXELS_UNDECODABLE:
            return Words("the pixel data cannot be decoded", "die Pixeldaten sind nicht dekodierbar", AGAIN)
        case Why.PIXELS_CUT_OFF:
            return Words("the pixel data is cut off", "die Pixeldaten sind abgeschnitten", AGAIN)
        case Why.PIXELS_TOO_COSTLY:
            return Words(
                "decoding the pixel data takes more than an image is worth",
                "die Pixeldaten sind nicht mit vertretbarem Aufwand dekodierbar",
                AGAIN,
            )
        case Why.NO_PIXELS:
            return Words("there is no pixel data", "es gibt keine Pixeldaten", AGAIN)
        case Why.NOT_WHOLE_NUMBERS:
            return Words("the pixels are not whole numbers", "die Pixel sind keine ganzen Zahlen", SCANNER)
        case Why.UNEXPECTEDLY_COMPRESSED:
            return Words(
                "the pixel data is compressed although the header says that it is not",
                "die Pixeldaten sind komprimiert, obwohl der Header es verneint",
                AGAIN,
            )
        case Why.NOT_COMPRESSED:
            return Words(
                "the pixel data is not compressed although the header says so",
                "die Pixeldaten sind nicht komprimiert, obwohl der Header es sagt",
                AGAIN,
            )
        case Why.COMPRESSED_SIZE:
            return Words(
                "the compressed image has {rows} × {columns} pixels, its header says {header_rows} × {header_columns}",
                "das komprimierte Bild hat {rows} × {columns} Pixel, sein Header sagt {header_rows} × {header_columns}",
                AGAIN,
            )
        case Why.FRAMES_DIFFER:
            return Words(
                "{promised} frames are promised and {described} described",
                "{promised} Frames sind angekündigt und {described} beschrieben",
                AGAIN,
            )
        case Why.FRAMES_WITHOUT_POSITION:
            return Words(
                "there are several frames without a position of their own",
                "es sind mehrere Frames ohne eigene Position",
                SCANNER,
            )
        case Why.FRAMES_UNREADABLE:
            return Words(
                "the description of the frames cannot be read", "die Beschreibung der Frames ist nicht lesbar", SCANNER
            )
        case Why.UNLIKE_NEIGHBOURS:
            return Words(
                "blank, or values that do not fit those of the slices beside it",
                "leer, oder die Werte passen nicht zu denen der Schichten daneben",
            )
        case Why.TOO_LARGE:
            return Words(
                "{count} images of {rows} × {columns} pixels are more than a head CT has",
                "{count} Bilder von {rows} × {columns} Pixeln sind mehr, als ein Kopf-CT hat",
                AXIAL,
            )

        # what the pixels show
        case Why.NO_AIR:
            return Words(
                "the pixel values are not Hounsfield units: there is no air around the head",
                "die Pixelwerte sind keine Hounsfield-Einheiten: um den Kopf ist keine Luft",
                SCANNER,
            )
        case Why.COARSE_VALUES:
            return Words(
                "the pixel values are too coarse for Hounsfield units",
                "die Pixelwerte sind zu grob für Hounsfield-Einheiten",
                SCANNER,
            )
        case Why.NO_SKULL:
            return Words("no skull with a brain inside was found", "kein Schädel mit Gehirn gefunden", WHOLE)
        case Why.BRAIN_HU:
            return Words(
                "the pixel values are not Hounsfield units: the median inside the skull is {median_hu:.0f}",
                "die Pixelwerte sind keine Hounsfield-Einheiten: der Median im Schädel ist {median_hu:.0f}",
                SCANNER,
            )
        case Why.BRIGHT_VESSELS:
            return Words(
                "the vessels are as bright as after contrast medium",
                "die Gefäße sind so hell wie nach Kontrastmittel",
                PLAIN,
            )
        case Why.SHARP_NOISE:
            return Words(
                "the noise is that of a sharp kernel, as for bone ({noise_hu:.0f} HU)",
                "das Rauschen ist das eines harten Kerns (Knochenkern; {noise_hu:.0f} HU)",
                SOFT,
            )
        case Why.OPEN_SKULL:
            return Words(
                "the skull is closed in few slices (craniectomy?)",
                "der Schädel ist in wenigen Schichten geschlossen (Kraniektomie?)",
            )
        case Why.SEQUENCE_HEAD:
            return Words(
                "the probability of the study also rests on how the slices follow each other, which no map shows",
                "die Wahrscheinlichkeit der Untersuchung beruht auch darauf, wie die Schichten aufeinander folgen; "
                "das zeigt keine Karte",
            )
        case Why.VERTEX_NOT_COVERED:
            return Words(
                "the scan ends inside the head: the part up to the vertex was not looked at "
                "({coverage_mm:.0f} mm scanned)",
                "die Aufnahme endet im Kopf: der Teil bis zum Scheitel wurde nicht beurteilt "
                "({coverage_mm:.0f} mm aufgenommen)",
                WHOLE,
            )
        case Why.BASE_NOT_COVERED:
            return Words(
                "the scan begins inside the head: the skull base was not looked at ({coverage_mm:.0f} mm scanned)",
                "die Aufnahme beginnt im Kopf: die Schädelbasis wurde nicht beurteilt "
                "({coverage_mm:.0f} mm aufgenommen)",
                WHOLE,
            )
        case Why.METAL:
            return Words(
                "metal inside the skull: streaks may hide or imitate a hemorrhage",
                "Metall im Schädel: Artefakte können eine Blutung verdecken oder vortäuschen",
            )

        # an earlier answer
        case Why.STAT_BEFORE:
            return Words(
                "an earlier result of this series, from fewer or other images, was STAT;"
                " it is not replaced by this one",
                "ein früheres Ergebnis dieser Serie, aus weniger oder anderen Bildern, war STAT;"
                " es wird durch dieses nicht ersetzt",
            )

        # the node itself
        case Why.WORKER_DIED:
            return Words("the analysis ended abruptly {times} times", "die Analyse ist {times}-mal abgestürzt", AGAIN)
        case Why.ANALYSIS_FAILED:
            return Words(
                "the analysis failed {times} times (technical message: {message})",
                "die Analyse ist {times}-mal fehlgeschlagen (technische Meldung: {message})",
            )
        case _:
            assert_never(code)
