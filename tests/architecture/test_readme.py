"""The front door tells the truth: its tree, its commands, its pictures, its links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.architecture.modules import REPOSITORY
from tests.architecture.tree import PHRASES, draw_tree, read_tree

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
DOCUMENTS = sorted(
    {*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md"), REPOSITORY / "core/dataset/sample/README.md"}
)
MODULE = re.compile(r"(?<![\w/.{])((?:core|pages|tests|benchmarks)/[\w/.]*\w)")
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")


def test_the_tree_is_that_of_the_files() -> None:
    assert read_tree() == draw_tree(), "run `make tree`"


def test_the_tree_names_only_what_exists() -> None:
    assert [name for name in PHRASES if not (REPOSITORY / name).exists()] == []


def test_every_command_of_the_readme_is_one_of_the_makefiles() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"`?make ([a-z-]+)`?", README))
    assert named <= targets


def test_every_page_of_the_menu_has_its_picture_in_the_readme() -> None:
    from pages.parts.kit.links import PAGES

    assert [name for name, page in PAGES.items() if page.in_menu and f"docs/pictures/{name}.png" not in README] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_links_lead_somewhere(document) -> None:  # type: ignore[no-untyped-def]
    targets = LINK.findall(document.read_text(encoding="utf-8"))
    assert [target for target in targets if not (document.parent / target).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_modules_that_are_named_are_there(document: Path) -> None:
    """What was renamed is renamed in every document; the changelog tells of what was, and home_1 is still to come."""
    named = set() if document.name == "CHANGELOG.md" else set(MODULE.findall(document.read_text(encoding="utf-8")))
    assert [name for name in named if not (REPOSITORY / name).exists() and not name.endswith("home_1")] == []
