"""Reasons and warnings, which other parts of the node write in English, in the language that people chose.

A sentence that has no translation stays as it is: a reader is better served by English than by nothing.
"""

from __future__ import annotations

import re

from ich_node.report.wording import Language

GERMAN: tuple[tuple[str, str], ...] = ()
"""English pattern (matched as a whole) and German text with its groups."""


def translated(text: str, language: Language) -> str:
    """`text`, which is English, in `language` where a translation is known."""
    if language == "de":
        for pattern, german in GERMAN:
            if match := re.fullmatch(pattern, text):
                return match.expand(german)
    return text
