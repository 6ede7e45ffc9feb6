"""The Makefile and what it calls: a missing browser or interpreter ends with a sentence, never in silence."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from core.home import REPOSITORY

SHELL = shutil.which("sh") or "/bin/sh"


def _find_chromium(path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SHELL, str(REPOSITORY / ".ci" / "find-chromium")],
        env={"PATH": str(path), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def bare_path(tmp_path: Path) -> Path:
    """A PATH with `id` on it and nothing else."""
    found = shutil.which("id")
    assert found
    (tmp_path / "id").symlink_to(found)
    return tmp_path


def _put_program(folder: Path, name: str) -> Path:
    program = folder / name
    program.write_text("#!/bin/sh\n", encoding="utf-8")
    program.chmod(0o755)
    return program


def test_the_browser_named_by_the_operator_comes_first(bare_path: Path) -> None:
    _put_program(bare_path, "chromium")
    mine = _put_program(bare_path, "mine")
    assert _find_chromium(bare_path, CHROMIUM=str(mine)).stdout.strip() == str(mine)


def test_a_browser_that_is_not_there_is_an_error_even_if_another_is(bare_path: Path) -> None:
    _put_program(bare_path, "chromium")
    answer = _find_chromium(bare_path, CHROMIUM=str(bare_path / "gone"))
    assert answer.returncode == 1
    assert f"CHROMIUM names '{bare_path / 'gone'}', which is not a program." in answer.stderr


def test_a_browser_on_the_path_is_found(bare_path: Path) -> None:
    there = _put_program(bare_path, "chromium-browser")
    assert _find_chromium(bare_path).stdout.strip() == str(there)


@pytest.mark.skipif(Path("/Applications/Google Chrome.app").exists(), reason="macOS has Chrome in a fixed place")
def test_without_a_browser_the_one_command_is_named(bare_path: Path) -> None:
    answer = _find_chromium(bare_path, CI="true")
    assert answer.returncode == 1
    assert answer.stdout == ""
    assert "sudo apt-get install chromium" in answer.stderr


def test_an_interpreter_that_is_too_old_is_named(tmp_path: Path) -> None:
    for name in ("Makefile", "requirements.lock"):
        shutil.copy(REPOSITORY / name, tmp_path)
    old = _put_program(tmp_path, "python3.8")
    pretence = 'import sys; sys.version_info = (3, 8, 1); sys.version = "3.8.1 (old)"; exec(sys.argv[2])'
    old.write_text(f"#!/bin/sh\nexec '{sys.executable}' -c '{pretence}' \"$@\"\n", encoding="utf-8")
    answer = subprocess.run(
        ["make", "run", f"PYTHON={old}"], cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=False
    )
    assert answer.returncode != 0
    assert "Tunedeck needs Python 3.11 to 3.14; this is 3.8.1. Name another" in answer.stderr
    assert not (tmp_path / ".venv").exists()


def test_make_alone_lists_every_command() -> None:
    answer = subprocess.run(["make"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in answer.stdout.splitlines()][:5] == ["help", "run", "gpu", "stop", "test"]


def test_ci_runs_what_everybody_types(tmp_path: Path) -> None:
    make = _put_program(tmp_path, "make")
    make.write_text(f'#!/bin/sh\necho "make $*" > {tmp_path / "typed"}\n', encoding="utf-8")
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    subprocess.run([REPOSITORY / ".ci" / "run"], env={"PATH": path}, check=True)
    assert (tmp_path / "typed").read_text(encoding="utf-8") == "make test\n"
