"""Whether a home can be served from where it lies: on a disk of this machine that takes writes."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from pathlib import Path

from core.engine.disk import is_disk_full
from core.errors import BadInput

_MOUNTS = Path("/proc/self/mountinfo")
# Locks and the shared memory of SQLite's WAL do not work, or not always, on disks that another machine holds.
_NETWORK = (
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "afs",
    "ceph",
    "glusterfs",
    "fuse.sshfs",
    "fuse.rclone",
    "ncpfs",
)
_ELSEWHERE = "Choose a folder on a disk of this machine with TUNEDECK_HOME."


def check_home(path: Path, mounts: Path = _MOUNTS) -> None:
    """Raise BadInput, with a sentence, where a home cannot be served from this folder."""
    kind = find_file_system(path, mounts)
    if kind in _NETWORK:
        raise BadInput(
            f"The home folder {path} lies on a network file system ({kind}), which cannot keep it safely.", _ELSEWHERE
        )
    probe = path / f".probe.{secrets.token_hex(4)}"
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe.write_bytes(b"\0" * 4096)
    except OSError as error:
        raise _explain(path, error) from error
    finally:
        with contextlib.suppress(OSError):  # the same error as above
            probe.unlink(missing_ok=True)


def find_file_system(path: Path, mounts: Path = _MOUNTS) -> str:
    """Return the kind of file system a path is or will be on, "" where this machine does not tell (not Linux)."""
    try:
        lines = mounts.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    best, kind = "", ""
    for line in lines:
        before, _, after = line.partition(" - ")
        mounted = before.split()[4].replace("\\040", " ")
        inside = str(path) == mounted or str(path).startswith(mounted.rstrip("/") + "/")
        if inside and len(mounted) >= len(best):
            best, kind = mounted, after.split()[0]
    return kind


def _explain(path: Path, error: OSError) -> BadInput:
    if is_disk_full(error):
        return BadInput(
            f"The disk of the home folder {path} is full.", "Free some space, then start again.", str(error)
        )
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        why = "is on a read-only disk" if error.errno == errno.EROFS else f"cannot be written by {_user()}"
        return BadInput(f"The home folder {path} {why}.", _ELSEWHERE, str(error))
    return BadInput(f"The home folder {path} cannot be used: {error.strerror}.", _ELSEWHERE, str(error))


def _user() -> str:
    return os.environ.get("USER") or f"user {os.getuid()}"
