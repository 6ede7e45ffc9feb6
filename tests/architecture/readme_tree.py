"""Draws the tree of the README from the files and their docstrings: `make tree` writes it, a test holds it true."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from tests.architecture.modules import REPOSITORY, Module

BEGIN, END = "<!-- tree: `make tree` -->\n```text\n", "```\n<!-- end of tree -->\n"
PHRASE_WIDTH = 96
SHORTEST = 40
COLUMN = 34
SOURCES = ("core", "pages")
# Folders that are named, not listed; and files that have no docstring of their own.
PHRASES = {
    ".streamlit/": "theme and server settings of the dashboard",
    ".ci/": "what CI runs, and the search for a Chromium",
    "core/": "everything that knows no screen",
    "core/local/": "the local workspace: a server that speaks Azure ML's REST API and does the work",
    "core/local/engine/": "the programs it runs: the steps of a training, the evaluation, the scorer",
    "core/local/routes/": "its HTTP routes, a file for each kind of resource",
    "core/dataset/": "chat data: sources, checks, rows, tokens, upload",
    "core/operations/": "every change of a workspace: recorded, carried out, resumed",
    "core/sample/": "the bundled data set: 302 conversations of a boat hire that does not exist",
    "pages/": "the screens",
    "pages/home/": "where an operator lands",
    "pages/setup/": "where, with what, on which data",
    "pages/tune/": "start a run; watch it",
    "pages/serve/": "deploy it; talk to it",
    "pages/operate/": "what exists and costs",
    "pages/parts/": "what pages are drawn with: the only modules beside app.py that import streamlit for others",
    "tests/": "mirrors core and pages; contract/ is the SDK against the local workspace, e2e/ a real browser",
    "benchmarks/": "`make bench`: page times and memory",
    "docs/": "decisions/ with their reasons, reliability.md with what was measured, pictures/",
    "Makefile": "every command",
    "pyproject.toml": "ruff, mypy, pytest; Tunedeck is run, not packaged",
    "requirements.txt": "direct dependencies, pinned; .lock has the rest",
    "requirements-dev.txt": "what tests and checks need besides",
}
LISTED_TOP = ("core/", "pages/", "tests/", "benchmarks/", "docs/", ".streamlit/", ".ci/")
TOP_FILES = ("Makefile", "pyproject.toml", "requirements.txt", "requirements-dev.txt")


def draw_tree() -> str:
    """Return the tree as lines of text, each file of core and pages with a phrase."""
    lines = [_line("app.py", 0, _phrase(REPOSITORY / "app.py"))]
    for folder in LISTED_TOP:
        lines.append(_line(folder, 0, PHRASES[folder]))
        if folder.rstrip("/") in SOURCES:
            lines += _list_folder(REPOSITORY / folder, 1)
    lines += [_line(name, 0, PHRASES[name]) for name in TOP_FILES]
    return "\n".join(lines) + "\n"


def read_tree(readme: str) -> str:
    """Return the tree that the README shows."""
    return readme.split(BEGIN, 1)[1].split(END, 1)[0]


def write_tree(path: Path) -> None:
    """Put the tree of today into the README."""
    readme = path.read_text(encoding="utf-8")
    before, rest = readme.split(BEGIN, 1)
    path.write_text(before + BEGIN + draw_tree() + END + rest.split(END, 1)[1], encoding="utf-8")


def _list_folder(folder: Path, depth: int) -> list[str]:
    lines = []
    entries = [path for path in folder.iterdir() if not path.name.startswith((".", "__pycache__"))]
    for path in sorted(entries, key=lambda each: (each.is_dir(), each.name)):
        if path.is_dir() and (name := f"{path.relative_to(REPOSITORY).as_posix()}/"):
            lines.append(_line(f"{path.name}/", depth, PHRASES[name]))
            lines += _list_folder(path, depth + 1) if name != "core/sample/" else []
        elif path.suffix == ".py" and path.name != "__init__.py":
            lines.append(_line(path.name, depth, _phrase(path)))
    return lines


def _line(name: str, depth: int, phrase: str) -> str:
    return f"{'  ' * depth}{name}".ljust(COLUMN) + phrase


def _phrase(path: Path) -> str:
    """Return the first sentence of a module's docstring, shortened at a comma, colon or semicolon to fit."""
    text = " ".join(Module(path).docstring.split())
    sentence = re.split(r"(?<=[\w`)\"])\.(?:\s|$)", text, maxsplit=1)[0]
    if len(sentence) > PHRASE_WIDTH:
        stops = [
            found.start() for found in re.finditer(r"[,;:] ", sentence) if SHORTEST <= found.start() <= PHRASE_WIDTH
        ]
        sentence = sentence[: stops[-1]] if stops else sentence[:PHRASE_WIDTH].rsplit(" ", 1)[0] + " …"
    return sentence


if __name__ == "__main__":
    write_tree(REPOSITORY / "README.md")
    sys.exit(0)
