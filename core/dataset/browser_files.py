"""Files uploaded by a browser, kept in the home until they are checked, and not in memory.

datasets/.given/<id>        one file each; removed when another is chosen, its check is cancelled, or after a day unused
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from core import home
from core.errors import BadInput

_DAY_S = 24 * 3600


@dataclass(frozen=True)
class GivenFile:
    """An uploaded file. name: the browser's, never a path here; size: in bytes."""

    id: str
    name: str
    size: int

    @property
    def path(self) -> Path:
        """Return where it lies."""
        return _root() / self.id


def keep_given(name: str, content: BinaryIO) -> GivenFile:
    """Write an uploaded file into the home; raises BadInput if there is no room for it."""
    remove_old_given()
    path = _root() / secrets.token_hex(6)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            shutil.copyfileobj(content, file, 1 << 20)
            return GivenFile(path.name, name, file.tell())
    except OSError as error:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        said = f"{name} could not be kept in the home folder: {error.strerror}."
        raise BadInput(said, "Free some space, and choose the file again.", str(error)) from error


def is_kept(given: GivenFile) -> bool:
    """Tell whether it is still there, and keep it for another day."""
    try:
        os.utime(given.path)
    except OSError:
        return False
    return True


def remove_old_given() -> None:
    """Remove files that were not used for a day."""
    for path in _root().glob("*"):
        with suppress(OSError):  # another tab was first
            if time.time() - path.stat().st_mtime > _DAY_S:
                path.unlink()


def forget_given(given: GivenFile) -> None:
    """Remove it; whoever is reading it reads it to its end."""
    given.path.unlink(missing_ok=True)


def _root() -> Path:
    return home.current().datasets / ".given"
