"""What a reason says: its words with its values in them, in a language, and what to send instead."""

from __future__ import annotations

from string import Formatter
from typing import Any

from ich_node.domain.reasons import Reason, Why
from ich_node.report.said.reason_words import Words, words_of
from ich_node.report.said.wording import WORDINGS, Language

TECHNICAL = frozenset(
    {
        *(Why.TILT, Why.UNEVEN, Why.SIDEWAYS, Why.NO_FRAME_OF_REFERENCE, Why.LEFT_OUT, Why.GAP),
        Why.CONTRADICTORY_ELEMENTS,
    }
)
"""Warnings about the series, for those who send it: they do not stand beside the answer."""

PARTIAL = frozenset({Why.VERTEX_NOT_COVERED, Why.BASE_NOT_COVERED, Why.GAPS})
"""Warnings that say which part of the head was not covered: a negative says so in its first line."""


def said(reason: Reason, language: Language) -> str:
    """The clause for `reason`: no capital, no full stop."""
    return _filled(words_of(reason.code), reason, language)


def instead(reason: Reason, language: Language) -> str:
    """What to send instead, so that there can be an answer; empty when nothing can be sent."""
    remedy = words_of(reason.code).instead
    return "" if remedy is None else _filled(remedy, reason, language)


def english(reason: Reason) -> str:
    """The clause for logs' readers, result.json and the ledger."""
    return said(reason, "en")


def _filled(words: Words, reason: Reason, language: Language) -> str:
    return _Filler(language).vformat(words.en if language == "en" else words.de, (), dict(reason.values))


class _Filler(Formatter):
    """Values as a language writes them; a quoted reason in the same language."""

    def __init__(self, language: Language) -> None:
        self._language: Language = language

    def format_field(self, value: Any, format_spec: str) -> str:
        if isinstance(value, Reason):
            return said(value, self._language)
        wording = WORDINGS[self._language]
        if format_spec == "images":
            return (wording.one_image if value == 1 else wording.several_images).format(count=value)
        text = format(value, format_spec)
        return text.replace(".", wording.decimal_point) if isinstance(value, float) else text
