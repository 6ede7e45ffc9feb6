"""Which files of this machine may be read as data: one check for every path that comes in. Reads no content."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from core import home
from core.dataset.files.file_formats import SUFFIXES
from core.errors import BadInput, NotFound, TunedeckError

LONGEST_NAME = 255  # bytes: what file systems take
SUFFIX = re.compile(r"(\.(" + "|".join(SUFFIXES) + r"))+$", re.IGNORECASE)
_VARIABLE = "TUNEDECK_DATA_FOLDERS"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def list_folders() -> list[Path]:
    """Return the folders that may be read: those of TUNEDECK_DATA_FOLDERS, and `incoming` in the home.

    Raises BadInput if the variable holds something that cannot be a path.
    """
    named = [name for name in os.environ.get(_VARIABLE, "").split(os.pathsep) if name]
    return [*(_resolve(name, f"{_VARIABLE} names '{show(name)}'") for name in named), _incoming()]


def list_files(limit: int = 200) -> list[Path]:
    """Return the files there that may hold chat data, newest first; names that are not UTF-8 are left out."""
    files = [
        (seen.st_mtime, path)
        for folder in list_folders()
        for path in _walk(folder)
        if SUFFIX.search(path.name) and _is_text(str(path)) and (seen := _find_file(path))
    ]
    return [path for _, path in sorted(files, reverse=True)[:limit]]


def get_file(given: str | Path) -> Path:
    """Return the resolved path of a file in an allowed folder; links are followed first, so that none leads out of it.

    Raises NotFound, or BadInput with what is wrong with the path. Opens the file, so that an unreadable one, a device
    or a pipe (which would block) is refused here and not where it is read.
    """
    shown = show(given)
    path, folders = _resolve(given, f"The path '{shown}'"), list_folders()
    if not any(path.is_relative_to(folder) for folder in folders):
        named = ", ".join(map(str, folders))
        raise BadInput(
            f"'{shown}' is not in a folder that may be read.", f"These may be: {named}. {_VARIABLE} names others."
        )
    try:
        opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise _refusal(error, f"The path '{shown}'") from error
    try:
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            kind = "a folder" if stat.S_ISDIR(os.fstat(opened).st_mode) else "no file but a device or a pipe"
            raise BadInput(f"'{shown}' is {kind}.", "Choose a file with rows.")
    finally:
        os.close(opened)
    return path


def check_name(name: str) -> str:
    """Return the last part of a file name from a browser or a workspace; raises BadInput if no file can have it."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    if not _is_text(name) or _CONTROL.search(last):
        raise BadInput(f"The name '{show(last)}' holds characters that no file's name may hold.", "Rename the file.")
    if len(last.encode()) > LONGEST_NAME:
        raise BadInput(f"The name '{show(last)}' is longer than {LONGEST_NAME} bytes.", "Rename the file.")
    return last


def _resolve(given: str | Path, subject: str) -> Path:
    """Return a path without links and `~`. subject: what the sentence of an error begins with."""
    text = str(given)
    if not _is_text(text) or _CONTROL.search(text):
        raise BadInput(f"{subject} holds characters no path may hold.", "Correct the path, or rename the file.")
    try:
        wanted = Path(text).expanduser()
    except RuntimeError as error:
        raise BadInput(f"{subject}: there is no such user here.", "Write the whole path.", str(error)) from error
    try:
        return wanted.resolve(strict=True)
    except FileNotFoundError:
        return wanted.resolve()
    except RuntimeError as error:  # what Python 3.11 and 3.12 raise for links in a circle
        raise _refusal(OSError(errno.ELOOP, str(error)), subject) from error
    except OSError as error:
        raise _refusal(error, subject) from error


def _refusal(error: OSError, subject: str) -> TunedeckError:
    """Return the error for a path that the system refuses."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return NotFound(f"{subject} leads to no file on the server.", "Check the path.")
    said, hint = {
        errno.ELOOP: ("runs in a circle of links", "Correct the link, or name the file itself."),
        errno.ENAMETOOLONG: ("is longer than the system allows", "Use shorter names."),
        errno.EACCES: ("may not be read by the dashboard's user", "Change its permissions, or those of its folder."),
        errno.EPERM: ("may not be read by the dashboard's user", "Change its permissions, or those of its folder."),
        errno.ENXIO: ("is no file but a device or a pipe", "Choose a file with rows."),
    }.get(error.errno or 0, ("cannot be opened", "Check the disk that it lies on."))
    return BadInput(f"{subject} {said}.", hint, str(error))


def _incoming() -> Path:
    return (home.current().path / "incoming").resolve()


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the files in a folder and below; folders that may not be read, and links to folders, are skipped."""
    for place, _, names in os.walk(folder):
        yield from (Path(place, name) for name in names)


def _find_file(path: Path) -> os.stat_result | None:
    """Return the status of a plain file, None if it is gone or something else."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def _is_text(text: str) -> bool:
    """Tell whether a name can be shown and kept: the system's names that are not UTF-8 hold lone surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def show(given: str | Path) -> str:
    """Return a path in a form that fits in a sentence."""
    text = "".join(
        "\ufffd" if not _is_text(character) or _CONTROL.match(character) else character for character in str(given)
    )
    return text if len(text) <= 80 else f"{text[:40]}…{text[-39:]}"
