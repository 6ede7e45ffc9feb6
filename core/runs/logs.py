"""The logs of a run's stages, read from their end."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from core.azureml.connection import Connection
from core.runs import history
from core.runs.states import Run

LOG_TAIL_BYTES = 65536
SEARCHED_BYTES = 4 << 20  # of a log's end, where it is searched
FILE_BYTES, ALL_BYTES = 32 << 20, 128 << 20  # of one log and of all of a run's, where they are taken away


class Level(Enum):
    """How bad a line of a log is at least."""

    ALL = ""
    WARNINGS = r"warn(ing)?\b|"
    ERRORS = r"\b(error|critical|fatal|fail(ed|ure)?)\b|\btraceback\b|\w(error|exception)\b"


@dataclass(frozen=True)
class LogPart:
    """Lines of a log. truncated: earlier lines were left out."""

    text: str
    truncated: bool = False


def read_log(conn: Connection, job: str, limit_bytes: int = LOG_TAIL_BYTES) -> LogPart:
    """Return the last `limit_bytes` of a job's log; a stage's job is `Stage.job`."""
    files = history.list_log_files(conn, job)
    name = _main_log(files)
    if not name:
        return LogPart("")
    content, start = _read_tail(conn, files[name], limit_bytes)
    text = content.decode("utf-8", errors="replace")
    if start and "\n" in text:
        text = text.split("\n", 1)[1]  # half a line tells nothing
    return LogPart(text, start > 0)


def find_lines(lines: Sequence[str], search: str, level: Level) -> list[tuple[int, str]]:
    """Return the lines that hold `search`, in any case, and are of the level, each with its number from 1.

    A line that is indented belongs to the one before it, as in a traceback.
    """
    wanted, found, is_bad = search.lower(), [], False
    bad = re.compile(
        Level.ERRORS.value if level is Level.ERRORS else Level.WARNINGS.value + Level.ERRORS.value, re.IGNORECASE
    )
    for number, line in enumerate(lines, 1):
        if level is not Level.ALL and not line.startswith((" ", "\t")):
            is_bad = bad.search(line[:2000]) is not None
        if (level is Level.ALL or is_bad) and wanted in line.lower():
            found.append((number, line))
    return found


def zip_logs(conn: Connection, run: Run) -> bytes:
    """Return all logs of all stages of a run as a zip; of a very long one its end, which says so."""
    packed, left = io.BytesIO(), ALL_BYTES
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, stage in enumerate(stage for stage in run.stages if stage.job):
            for name, url in sorted(history.list_log_files(conn, stage.job).items()):
                content, start = _read_tail(conn, url, min(FILE_BYTES, left))
                left -= len(content)
                cut = f"(the first {start} bytes are left out)\n".encode() if start else b""
                safe = re.sub(r"[^\w.-]", "-", name)
                archive.writestr(f"{number + 1:02}-{stage.name}/{safe}", cut + content)
    return packed.getvalue()


def _main_log(files: Mapping[str, str]) -> str:
    """Return the name of the file that holds what the program wrote."""
    for wanted in ("user_logs/std_log", "logs/azureml/executionlogs", "logs/", ""):
        found = sorted(name for name in files if name.startswith(wanted))
        if found:
            return found[0]
    return ""


def _read_tail(conn: Connection, url: str, limit_bytes: int) -> tuple[bytes, int]:
    """Return a file's last bytes and where they begin. The address is signed: no token goes with it."""
    head = conn.http("HEAD", url, doing="read", what="a log", authenticated=False)
    size = int(head.headers.get("Content-Length") or 0)
    start = max(0, size - limit_bytes)
    if start >= size:
        return b"", start
    answer = conn.http(
        "GET", url, doing="read", what="a log", authenticated=False, headers={"Range": f"bytes={start}-{size - 1}"}
    )
    if answer.status_code == 206:
        return answer.content, start
    return answer.content[start:], start  # a server that does not know ranges sends it all
