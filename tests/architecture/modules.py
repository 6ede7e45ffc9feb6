"""The checkout's Python files, parsed: what each imports and what it is called."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCES = ("app.py", "core", "pages", "tests", "benchmarks")


@dataclass(frozen=True)
class Import:
    """One imported module. at_start: imported when the module is, not in a function nor for type checks only."""

    name: str
    line: int
    at_start: bool


@dataclass(frozen=True)
class Module:
    path: Path

    @cached_property
    def file(self) -> str:
        """Its path below the repository, with forward slashes."""
        return self.path.relative_to(REPOSITORY).as_posix()

    @property
    def name(self) -> str:
        parts = self.path.relative_to(REPOSITORY).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, filename=self.file)

    @cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        """All of its tree, walked once: each rule goes over it."""
        return tuple(ast.walk(self.tree))

    @cached_property
    def imports(self) -> tuple[Import, ...]:
        found: list[Import] = []
        _collect(self.tree.body, True, found)
        return tuple(found)

    @property
    def docstring(self) -> str:
        return ast.get_docstring(self.tree) or ""


def list_modules(*roots: str) -> list[Module]:
    """Return the Python files below these files and folders, sorted."""
    found: list[Path] = []
    for root in roots or SOURCES:
        path = REPOSITORY / root
        found += [path] if path.suffix == ".py" else path.rglob("*.py")
    return [_parse_once(path) for path in sorted(found) if "__pycache__" not in path.parts]


@cache
def _parse_once(path: Path) -> Module:
    return Module(path)


def belongs_to(name: str, *packages: str) -> bool:
    """Tell whether a module's name is one of these packages or lies in one."""
    return any(name == package or name.startswith(package + ".") for package in packages)


def _collect(nodes: list[ast.stmt], at_start: bool, found: list[Import]) -> None:
    for node in nodes:
        if isinstance(node, ast.Import):
            found.extend(Import(each.name, node.lineno, at_start) for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            found.append(Import(base, node.lineno, at_start))
            # `from core import home` imports the module core.home; a name that is no module does no harm in the rules
            found.extend(Import(f"{base}.{each.name}", node.lineno, at_start) for each in node.names)
        else:
            in_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            later = in_function or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
            for block in ("body", "orelse", "finalbody"):
                _collect(getattr(node, block, []), at_start and not later, found)
            for handler in getattr(node, "handlers", []):
                _collect(handler.body, at_start, found)
