"""A YAML file as a mapping, read so that nothing in it means something that its author did not write.

YAML 1.1 would read `port: 0104` as 68, `ae_title: NO` as false and `10:30` as 630, and would take the last of two equal
keys in silence. Here a number is decimal, only `true` and `false` are truth values (the configuration's fields still
understand yes and no), and a key that stands twice is an error. Errors are ConfigError, with line numbers.
"""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import Any

import yaml

from ich_node.domain.errors import ConfigError

BYTE_ORDER_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


class _Loader(yaml.SafeLoader):
    """YAML's safe types with the scalars of the YAML 1.2 core schema, decimal numbers only."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 — PyYAML's own way

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[Any, int] = {}
        for key, _ in node.value:
            name, line = self.construct_object(key, deep=True), key.start_mark.line + 1
            if not isinstance(name, str | int | float):
                raise yaml.constructor.ConstructorError(None, None, "a key is not a word", key.start_mark)
            if name in seen:
                problem = f"{name!r} is given twice, in lines {seen[name]} and {line}"
                raise yaml.constructor.ConstructorError(None, None, problem, None)
            seen[name] = line
        return super().construct_mapping(node, deep=deep)


_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:[Tt]rue|TRUE|[Ff]alse|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)$"), list("-+.0123456789")
)


def read(path: Path) -> dict[str, Any]:
    """The keys of the file; empty when it holds none. Raises ConfigError with the file's name and the line."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from error
    try:
        data = yaml.load(_text(path, content), Loader=_Loader)  # noqa: S506 — derived from SafeLoader
    except yaml.YAMLError as error:
        raise ConfigError([f"{path}: not YAML: {' '.join(str(error).split())}"]) from error
    except RecursionError as error:
        raise ConfigError([f"{path}: nested too deep"]) from error
    if data is not None and not isinstance(data, dict):
        raise ConfigError([f"{path}: the file is not a mapping of keys"])
    return data or {}


def _text(path: Path, content: bytes) -> str:
    """UTF-8, or what a byte order mark says."""
    mark, encoding = next(((m, e) for m, e in BYTE_ORDER_MARKS if content.startswith(m)), (b"", "utf-8"))
    try:
        return content[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        byte = content[len(mark) + error.start]
        problem = f"line {line} is not UTF-8 (byte 0x{byte:02X}): save the file in the encoding UTF-8"
        raise ConfigError([f"{path}: {problem}"]) from error
