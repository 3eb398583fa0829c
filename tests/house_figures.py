"""The form of the house in figures; run by hand: python -m tests.house_figures [FOLDER].

Prints, for a checkout (this one, or another one for a comparison): lengths of modules and functions, rooms and the
imports between them, public definitions with a docstring, numeric constants with a reason, broad excepts, and runs of
lines that stand in two places. Nothing here judges; compare two prints.

What a type states again is no second thing. A method of a Protocol without a docstring counts as documented where a
method of that name says what it guarantees, one home a fact, and its signature is no copy of the one that it describes.
A function that is one `match` whose cases only return is a table that mypy proves to be whole, and no long function.
"""

from __future__ import annotations

import ast
import io
import statistics
import sys
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

COPY_LINES = 6  # a shorter run of equal lines is idiom, not a copy

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True, slots=True)
class Module:
    """One module, parsed: its path relative to the package, its source and tree."""

    name: str
    source: str
    tree: ast.Module

    @property
    def room(self) -> str:
        """The first folder, or the file itself where there is none."""
        return self.name.split("/")[0]


def modules(root: Path) -> list[Module]:
    """Every module of the package in the checkout `root`."""
    package = root / "ich_node"
    paths = sorted(package.rglob("*.py"))
    return [Module(str(p.relative_to(package)), text := p.read_text(), ast.parse(text)) for p in paths]


def functions(module: Module) -> list[int]:
    """Lengths in lines of every function that is no table, decorators left out."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    found = [node for node in ast.walk(module.tree) if isinstance(node, kinds) and not _is_table(node)]
    return [(node.end_lineno or 0) - node.lineno + 1 for node in found]


def _is_table(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    match body:
        case [ast.Match(cases=[*cases, _])]:
            return all(len(case.body) == 1 and isinstance(case.body[0], ast.Return) for case in cases)
    return False


def public(body: list[ast.stmt]) -> Iterator[Definition]:
    """Public functions and classes at module level and public methods of public classes; no overloads."""
    for node in body:
        if isinstance(node, Definition) and not node.name.startswith("_") and not _is_overload(node):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body)


def _is_overload(node: Definition) -> bool:
    return any(isinstance(d, ast.Name) and d.id == "overload" for d in node.decorator_list)


def stubs(module: Module) -> list[ast.FunctionDef]:
    """The methods without a docstring that a Protocol of this module asks for."""
    protocols = [
        node
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef) and any("Protocol" in ast.unparse(base) for base in node.bases)
    ]
    methods = [node for protocol in protocols for node in protocol.body if isinstance(node, ast.FunctionDef)]
    return [node for node in methods if ast.get_docstring(node) is None]


def constants(module: Module) -> Iterator[tuple[str, bool]]:
    """(name, has a reason) of every upper-case number at module level: a comment on its lines, one alone on the line
    before it, or a docstring after it."""
    comments = {
        token.start[0]: token.line.lstrip().startswith("#")
        for token in tokenize.generate_tokens(io.StringIO(module.source).readline)
        if token.type == tokenize.COMMENT
    }
    body = module.tree.body
    for node, following in zip(body, [*body[1:], None], strict=True):
        if not isinstance(node, ast.Assign | ast.AnnAssign):
            continue
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        names = [n.id for n in (target.elts if isinstance(target, ast.Tuple) else [target]) if isinstance(n, ast.Name)]
        if not names or not all(name.isupper() for name in names):
            continue
        if node.value is None or not _is_number(node.value):
            continue
        explained = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
        lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
        has_reason = explained or comments.get(node.lineno - 1, False) or any(line in comments for line in lines)
        yield from ((name, has_reason) for name in names)


def _is_number(node: ast.expr) -> bool:
    leaves = [n for n in ast.walk(node) if isinstance(n, ast.Constant)]
    return bool(leaves) and all(isinstance(n.value, int | float) and not isinstance(n.value, bool) for n in leaves)


def edges(found: list[Module]) -> set[tuple[str, str]]:
    """Which room imports which."""
    pairs = set()
    for module in found:
        for node in ast.walk(module.tree):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for name in names:
                parts = name.split(".")
                if parts[0] == "ich_node" and len(parts) > 1:
                    pairs.add((module.room.removesuffix(".py"), parts[1]))
    return {(a, b) for a, b in pairs if a != b}


def depth(pairs: set[tuple[str, str]]) -> int:
    """Floors of the house: the longest chain of rooms that import one another, circles counted once."""
    below = defaultdict(set)
    for a, b in pairs:
        below[a].add(b)

    def floors(room: str, seen: frozenset[str]) -> int:
        return 1 + max((floors(other, seen | {other}) for other in below[room] - seen), default=0)

    return max((floors(room, frozenset({room})) for room in list(below)), default=1)


def copies(found: list[Module]) -> int:
    """How many runs of COPY_LINES equal lines, imports and blank lines left out, stand in more than one place."""
    places = defaultdict(set)
    for module in found:
        stated = {n for node in stubs(module) for n in range(node.lineno, (node.end_lineno or node.lineno) + 1)}
        lines = [
            (number, line.strip())
            for number, line in enumerate(module.source.splitlines(), 1)
            if line.strip()
            and number not in stated
            and not line.strip().startswith(("import ", "from ", "#", ")", "}", "]"))
        ]
        for start in range(len(lines) - COPY_LINES + 1):
            run = tuple(line for _, line in lines[start : start + COPY_LINES])
            places[run].add((module.name, lines[start][0]))
    return sum(len(where) > 1 for where in places.values())


def broad(module: Module) -> int:
    """Handlers that catch everything."""
    handlers = [node for node in ast.walk(module.tree) if isinstance(node, ast.ExceptHandler)]
    names = ("Exception", "BaseException")
    return sum(h.type is None or (isinstance(h.type, ast.Name) and h.type.id in names) for h in handlers)


def table(root: Path) -> dict[str, str]:
    """Every figure by name."""
    found = modules(root)
    sizes = sorted(module.source.count("\n") for module in found)
    lengths = sorted(length for module in found for length in functions(module))
    named = [node for module in found for node in public(module.tree.body)]
    told = {node.name for node in named if ast.get_docstring(node) is not None}
    asked = {id(node) for module in found for node in stubs(module)}
    documented = sum(ast.get_docstring(node) is not None or (id(node) in asked and node.name in told) for node in named)
    numbers = [reason for module in found for _, reason in constants(module)]
    pairs = edges(found)
    return {
        "modules": str(len(found)),
        "lines a module, median / longest": f"{statistics.median(sizes):.0f} / {sizes[-1]}",
        "lines a function, median / 9 in 10 / longest": (
            f"{statistics.median(lengths):.0f} / {lengths[len(lengths) * 9 // 10]} / {lengths[-1]}"
        ),
        "rooms": str(len({module.room for module in found if "/" in module.name})),
        "imports between rooms": str(len(pairs)),
        "floors": str(depth(pairs)) if len(pairs) < 80 else "many",  # a house without floors takes for ever to walk
        "public definitions documented": f"{documented / len(named):.1%} of {len(named)}",
        "numeric constants with a reason": f"{sum(numbers)} of {len(numbers)}",
        "broad excepts": str(sum(broad(module) for module in found)),
        f"runs of {COPY_LINES} lines that stand twice": str(copies(found)),
    }


def main() -> None:
    """Print the table."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1]
    for name, value in table(root).items():
        print(f"{name:48} {value}")


if __name__ == "__main__":
    main()
