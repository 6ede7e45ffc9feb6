"""Files that a browser gave, in the home until they are taken: memory holds none of them. Knows no check.

datasets/.given/<id>        one file each; removed when another is chosen, or on a later day
"""

from __future__ import annotations

import secrets
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from core import home
from core.errors import BadInput

_DAY_S = 24 * 3600


@dataclass(frozen=True)
class GivenFile:
    """A file in the home. name: as the browser called it, never a path here; size: in bytes."""

    id: str
    name: str
    size: int

    @property
    def path(self) -> Path:
        """Return where it lies."""
        return _root() / self.id


def keep_given(name: str, content: BinaryIO) -> GivenFile:
    """Write what a browser sent into the home; raises BadInput where there is no room for it."""
    root = _root()
    root.mkdir(parents=True, exist_ok=True)
    for old in root.iterdir():
        if time.time() - old.stat().st_mtime > _DAY_S:
            old.unlink(missing_ok=True)
    path = root / secrets.token_hex(6)
    try:
        with path.open("wb") as file:
            shutil.copyfileobj(content, file, 1 << 20)
            return GivenFile(path.name, name, file.tell())
    except OSError as error:
        path.unlink(missing_ok=True)
        said = f"{name} could not be kept in the home folder: {error.strerror}."
        raise BadInput(said, "Free some space, and choose the file again.", str(error)) from error


def forget_given(given: GivenFile) -> None:
    """Remove it; what is being read of it is read to its end."""
    given.path.unlink(missing_ok=True)


def _root() -> Path:
    return home.current().datasets / ".given"
