"""Why a series is not analysed, and what a reader of an analysed one is warned of: codes with values, no prose.

The words, in every language, are in `report/said/reason_words.py`. A reason may quote another one (`because`). Codes
stand in result.json and logs and never change their meaning.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Self


class Why(StrEnum):
    """Every reason with the names of its values, which its wording is filled with."""

    fields: frozenset[str]

    def __new__(cls, code: str, *fields: str) -> Self:
        """A member is its code; `fields` are the values that come with it."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.fields = frozenset(fields)
        return member

    # no series for this node
    NO_IMAGES = "no_images"
    NOT_CT = "not_ct", "classes"
    OWN_RESULT = "own_result"
    LOCALIZER = "localizer"
    NOT_AXIAL = "not_axial"
    NOT_THE_SLICES = "not_the_slices", "word"
    BOLUS_TRACKING = "bolus_tracking"
    OTHER_BODY_PART = "other_body_part", "part"
    WIDE_FIELD = "wide_field", "field_mm"
    SEVERAL_OWNERS = "several_owners"
    SEVERAL_SERIES = "several_series"
    OTHER_SERIES_ANALYSED = "other_series_analysed"
    NOTHING_ADDED = "nothing_added"
    TOO_MANY_IMAGES = "too_many_images", "limit"
    SENT_AGAIN = "sent_again"
    DISAGREES = "disagrees"
    HEADERS_TOO_LARGE = "headers_too_large"
    NOT_JUDGED = "not_judged"

    # what the node did not take
    REFUSED_FOR_SPACE = "refused_for_space"
    IMAGES_REFUSED = "images_refused"

    # the header
    HEADER_UNREADABLE = "header_unreadable"
    CONTRAST_NAMED = "contrast_named"
    CONTRAST_RECORDED = "contrast_recorded"
    CONTRAST_DESCRIBED = "contrast_described", "word"
    SPECTRAL = "spectral", "word"
    SHARP_KERNEL = "sharp_kernel", "kernel"
    SHARP_DESCRIBED = "sharp_described", "word"
    THICK_SLICES = "thick_slices", "thickness_mm", "limit_mm"
    MODALITY_LUT = "modality_lut"
    NO_RESCALE = "no_rescale"
    RESCALE_UNREADABLE = "rescale_unreadable"
    RESCALE_IMPOSSIBLE = "rescale_impossible", "slope", "intercept"
    NOT_HOUNSFIELD = "not_hounsfield"

    # where the slices lie
    NO_POSITION = "no_position"
    ATTRIBUTE_MISSING = "attribute_missing", "attribute"
    ATTRIBUTE_IMPOSSIBLE = "attribute_impossible", "attribute"
    NOT_PERPENDICULAR = "not_perpendicular"
    PIXEL_SPACING = "pixel_spacing", "rows_mm", "columns_mm"
    TOO_MANY_GROUPS = "too_many_groups", "limit"
    TOO_FEW_SLICES = "too_few_slices", "count", "needed"
    FAR_APART = "far_apart", "spacing_mm", "limit_mm"
    COVERS_TOO_LITTLE = "covers_too_little", "coverage_mm", "needed_mm"
    COVERS_TOO_MUCH = "covers_too_much", "coverage_mm", "limit_mm"
    SLICES_MISSING = "slices_missing", "gap_mm"
    GAP = "gap", "missing_mm", "below", "above"
    GAPS = "gaps", "count", "missing_mm"
    THICK_PART = "thick_part", "thickness_mm"
    UNEVEN = "uneven", "smallest_mm", "largest_mm"
    TILT = "tilt", "degrees"
    SIDEWAYS = "sideways", "sideways_mm"
    NO_FRAME_OF_REFERENCE = "no_frame_of_reference"
    SEVERAL_FRAMES_OF_REFERENCE = "several_frames_of_reference", "count"
    ONE_OF_SEVERAL = "one_of_several", "passes", "detail"
    SEVERAL_UNNAMED = "several_unnamed", "images"
    INSEPARABLE = "inseparable"
    OVER_TIME = "over_time"
    CONTRADICTORY_ELEMENTS = "contradictory_elements", "keywords"

    # images left out of the stack
    LEFT_OUT = "left_out", "count", "because"
    OTHER_ORIENTATION = "other_orientation"
    OTHER_SIZE = "other_size"
    OTHER_PIXEL_SPACING = "other_pixel_spacing"
    OTHER_ACQUISITION = "other_acquisition"
    SECOND_IMAGE = "second_image"
    SAME_INSTANCE = "same_instance"
    FAR_AWAY = "far_away"
    ASIDE = "aside"

    # files and stored pixels
    NOTHING_READABLE = "nothing_readable"
    NOT_READABLE = "not_readable"
    NAMELESS = "nameless"
    IMAGE_SIZE = "image_size", "rows", "columns"
    IN_COLOUR = "in_colour"
    BITS = "bits", "stored", "allocated"
    TRANSFER_SYNTAX = "transfer_syntax", "uid"
    PIXELS_UNDECODABLE = "pixels_undecodable"
    PIXELS_CUT_OFF = "pixels_cut_off"
    PIXELS_TOO_COSTLY = "pixels_too_costly"
    NO_PIXELS = "no_pixels"
    NOT_WHOLE_NUMBERS = "not_whole_numbers"
    UNEXPECTEDLY_COMPRESSED = "unexpectedly_compressed"
    NOT_COMPRESSED = "not_compressed"
    COMPRESSED_SIZE = "compressed_size", "rows", "columns", "header_rows", "header_columns"
    FRAMES_DIFFER = "frames_differ", "promised", "described"
    FRAMES_WITHOUT_POSITION = "frames_without_position"
    FRAMES_UNREADABLE = "frames_unreadable"
    TOO_LARGE = "too_large", "count", "rows", "columns"
    UNLIKE_NEIGHBOURS = "unlike_neighbours"

    # what the pixels show
    NO_AIR = "no_air"
    COARSE_VALUES = "coarse_values"
    NO_SKULL = "no_skull"
    BRAIN_HU = "brain_hu", "median_hu"
    BRIGHT_VESSELS = "bright_vessels"
    SHARP_NOISE = "sharp_noise", "noise_hu"
    OPEN_SKULL = "open_skull"
    METAL = "metal"
    VERTEX_NOT_COVERED = "vertex_not_covered", "coverage_mm"
    BASE_NOT_COVERED = "base_not_covered", "coverage_mm"

    # the model
    SEQUENCE_HEAD = "sequence_head"

    # an earlier answer
    STAT_BEFORE = "stat_before"

    # the node itself
    WORKER_DIED = "worker_died", "times"
    ANALYSIS_FAILED = "analysis_failed", "times", "message"


@dataclass(frozen=True, slots=True, init=False)
class Reason:
    """A code with its values, sorted by name; ValueError when they are not those that the code comes with."""

    code: Why
    values: tuple[tuple[str, int | float | str | Reason], ...]

    def __init__(self, code: Why, /, **values: int | float | str | Reason) -> None:
        if values.keys() != code.fields:
            raise ValueError(f"{code} comes with {sorted(code.fields)}, not with {sorted(values)}")
        object.__setattr__(self, "code", code)
        object.__setattr__(self, "values", tuple(sorted(values.items(), key=lambda item: item[0])))

    def __str__(self) -> str:
        """For logs: the code and its values."""
        listed = ", ".join(f"{name} {value}" for name, value in self.values)
        return f"{self.code} ({listed})" if listed else str(self.code)
