"""Draws the tree of docs/architecture.md, a phrase a folder: `make tree` writes it, a test holds it true."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.architecture.modules import REPOSITORY, Module

DOCUMENT = REPOSITORY / "docs/architecture.md"
BEGIN, END = "<!-- tree: `make tree` -->\n```text\n", "```\n<!-- end of tree -->\n"
COLUMN = 24
# Folders without a docstring of their own, and what stands beside the folders.
PHRASES = {
    "app.py": "the frame round every page, nothing else",
    "pages/": "the screens: a short script a page",
    "pages/home/": "where an operator lands",
    "pages/setup/": "where, with what, on which data",
    "pages/tune/": "start a run; watch it",
    "pages/serve/": "deploy it; talk to it",
    "pages/operate/": "what exists and costs",
    "pages/parts/": "what pages are drawn with: the only modules beside app.py that import streamlit for others",
    "pages/parts/kit/": "what every page is drawn with: actions, live parts, notices, links, reads, words, charts",
    "pages/parts/kit/elements/": "what Streamlit lacks: a chart drawn anew in place, a table, tokens, a copy button",
    "pages/parts/home/": "the pieces of the overview",
    "pages/parts/setup/": "the pieces of Connect and of Model & compute",
    "pages/parts/data/": "the pieces of Data",
    "pages/parts/tune/": "the pieces of Launch and Runs",
    "pages/parts/serve/": "the pieces of Deploy and Chat",
    "pages/parts/operate/": "the pieces of Teardown and Activity",
    "core/": "everything that knows no screen; its own files are the ground",
    "core/dataset/sample/": "the bundled data set: 302 conversations of a boat hire that does not exist",
    "tests/": "mirrors core and pages; contract/ is the SDK on the local workspace, azure/ a stand-in, e2e/ a browser",
    "benchmarks/": "`make bench`: page times and memory",
    "docs/": "decisions/ with their reasons, reliability.md with what was measured, pictures/",
    ".streamlit/": "theme and server settings of the dashboard",
    ".ci/": "what CI runs, and the search for a Chromium",
    "Makefile": "every command",
    "pyproject.toml": "ruff, mypy, pytest; Tunedeck is run, not packaged",
    "requirements.txt": "direct dependencies, pinned; .lock has the rest; -dev.txt what tests and checks need besides",
}
LISTED = ("pages/", "core/")


def draw_tree() -> str:
    """Return the tree as lines of text, each folder of core and pages with a phrase."""
    lines = []
    for name, phrase in PHRASES.items():
        if name.count("/") < 2:
            lines.append(_line(name, 0, phrase))
        if name in LISTED:
            lines += _list_folder(REPOSITORY / name, 1)
    return "\n".join(lines) + "\n"


def read_tree() -> str:
    """Return the tree that the document shows."""
    return DOCUMENT.read_text(encoding="utf-8").split(BEGIN, 1)[1].split(END, 1)[0]


def write_tree() -> None:
    """Put the tree of today into the document."""
    before, rest = DOCUMENT.read_text(encoding="utf-8").split(BEGIN, 1)
    DOCUMENT.write_text(before + BEGIN + draw_tree() + END + rest.split(END, 1)[1], encoding="utf-8")


def _list_folder(folder: Path, depth: int) -> list[str]:
    lines = []
    for path in sorted(
        each for each in folder.iterdir() if each.is_dir() and each.name[0] not in "._" and any(each.glob("[!._]*"))
    ):
        lines.append(_line(f"{path.name}/", depth, _phrase(path)))
        lines += _list_folder(path, depth + 1)
    return lines


def _line(name: str, depth: int, phrase: str) -> str:
    return f"{'  ' * depth}{name}".ljust(COLUMN) + phrase


def _phrase(folder: Path) -> str:
    """Return the first sentence of a package's docstring, else the phrase of the table."""
    own = folder / "__init__.py"
    text = PHRASES.get(f"{folder.relative_to(REPOSITORY).as_posix()}/") or Module(own).docstring.split("\n")[0]
    return text.rstrip(".")


if __name__ == "__main__":
    write_tree()
    sys.exit(0)
