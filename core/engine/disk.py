"""Files that outlast a power cut: synced before they get their name, linked rather than copied; and a reserve of space.

The trainer writes its checkpoints with it, too.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import sqlite3
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
RESERVE_BYTES = 8 * 1024 * 1024


def sync(path: Path) -> None:
    """Bring a file, or the list of names of a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Bring every file below a folder to the disk, and every list of names."""
    for parent, _folders, files in os.walk(folder, topdown=False):
        for name in files:
            sync(Path(parent) / name)
        sync(Path(parent))


def is_disk_full(error: BaseException) -> bool:
    """Tell whether a write failed for want of space; SQLite says so in words, and of a file's limit as an I/O error."""
    if isinstance(error, sqlite3.OperationalError):
        return "disk is full" in str(error) or "disk I/O error" in str(error)
    return isinstance(error, OSError) and error.errno in _FULL


def place(staged: Path, target: Path) -> None:
    """Give a file that is written its name, over an older one: found later is the one or the other, whole."""
    sync(staged)
    staged.replace(target)
    sync(target.parent)


def place_tree(staged: Path, target: Path) -> None:
    """Give a folder that is written its name; an older one of this name goes first."""
    sync_tree(staged)
    shutil.rmtree(target, ignore_errors=True)
    staged.rename(target)
    sync(target.parent)


def link(source: str | Path, target: str | Path) -> None:
    """Give a file a second name, which takes no space; copied where the two are on different disks."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def link_tree(source: Path, target: Path, temporary: Path) -> None:
    """Make `target` a copy of the folder `source` in hard links, whole or not at all; put together in `temporary`."""
    if target.exists():
        return
    temporary.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(temporary, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, temporary, copy_function=link)
    place_tree(temporary, target)


def share(kept: Path, spare: Path, sha256: str) -> bool:
    """Make `spare` another name of `kept`, whose content is said to be the same; tell whether it was, and is.

    Both are then read-only: who writes into one would write into the other.
    """
    try:
        with kept.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                return False
        if kept.samefile(spare):
            return True
        linked = spare.with_name(f".{spare.name}.linking")
        linked.unlink(missing_ok=True)
        os.link(kept, linked)
    except OSError:  # gone, or on another disk
        return False
    kept.chmod(0o444)
    linked.replace(spare)
    return True


class DiskReserve:
    """A file that gives way when the disk is full, so that the failure it causes can still be written down."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def take(self) -> None:
        """Take the space, where there is plenty."""
        if not self._path.exists() and shutil.disk_usage(self._path.parent).free > 8 * RESERVE_BYTES:
            self._path.write_bytes(b"\0" * RESERVE_BYTES)

    def give_way(self, error: Exception) -> None:
        """Free the space where `error` says that there is none; it is taken again at the next start."""
        if is_disk_full(error):
            self._path.unlink(missing_ok=True)
