"""Type, answer, probability, site, side and priority (codes) from `dcm2json measurement-report.dcm > report.json`."""

import json
import sys
from pathlib import Path


def walk(item):
    return [item, *(deep for child in item.get("0040A730", {}).get("Value", []) for deep in walk(child))]


def code(item, tag):
    return item[tag]["Value"][0]["00080100"]["Value"][0] if tag in item else None


for group in walk(json.loads(Path(sys.argv[1]).read_text())):
    if code(group, "0040A043") == "125007":  # Measurement Group
        said = {code(item, "0040A043"): code(item, "0040A168") for item in walk(group) if "0040A168" in item}
        kind = next(name for name, answer in said.items() if answer in ("52101004", "272519000"))
        number = next(item["0040A300"]["Value"][0] for item in walk(group) if "0040A300" in item)
        percent = number["0040A30A"]["Value"][0]
        present = said[kind] == "52101004"
        print(kind, present, percent, said.get("363698007"), said.get("272741003"), said.get("260870009"))
