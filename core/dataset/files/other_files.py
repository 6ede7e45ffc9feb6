"""Files that are no chat data at all: a pointer to data, a web page, a document, an archive. Named by their kind."""

from __future__ import annotations

import re
from pathlib import Path

from core.errors import BadInput

_START = 1 << 16
_UNPACK = "Unpack it, and choose a file in it."
_WRITE = "Write its conversations as JSONL or CSV, and choose that."
_EXPORT = "Save the sheet as CSV in UTF-8, and choose that."
_ONLY_TEXT = "Only text is trained on here."
# How a file begins, what it is then, and what the operator can do.
_KINDS = tuple(
    (re.compile(pattern, re.IGNORECASE | re.DOTALL), is_what, hint)
    for pattern, is_what, hint in (
        (
            rb"version https://git-lfs\.github\.com/spec/",
            "is a Git LFS pointer: it names the data and does not hold it",
            "Run git lfs pull in its repository, or download the file itself, and choose that.",
        ),
        (
            rb"[./]*(\.git)?/?annex/objects/",
            "is a git-annex pointer: it names the data and does not hold it",
            "Run git annex get in its repository, and choose the file again.",
        ),
        (
            rb"(\xef\xbb\xbf)?\s*(<\?xml[^>]*>\s*)?(<!--.{0,1000}?-->\s*)?<(!doctype html|html|head|body)\b",
            "is a web page, not the data",
            "Download the file itself: the address may lead to a page about it, or ask to sign in first.",
        ),
        (rb"(\xef\xbb\xbf)?\s*<\?xml", "is XML", _WRITE),
        (rb"\{\\rtf", "is an RTF document", _WRITE),
        (rb"%PDF-", "is a PDF", _WRITE),
        (rb"%!PS", "is PostScript", _WRITE),
        (rb"PK\x03\x04.*xl/", "is an Excel workbook", _EXPORT),
        (rb"PK\x03\x04.*word/", "is a Word document", _WRITE),
        (rb"PK\x03\x04.*ppt/", "is a PowerPoint presentation", _WRITE),
        (rb"PK\x03\x04.{26}mimetypeapplication/vnd\.oasis\.opendocument\.spreadsheet", "is a spreadsheet", _EXPORT),
        (rb"PK\x03\x04.{26}mimetypeapplication/", "is a document", _WRITE),
        (rb"PK\x03\x04|PK\x05\x06", "is a zip archive", _UNPACK),
        (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "is an old Excel workbook or Word document", _EXPORT),
        (rb"SQLite format 3\x00", "is an SQLite database", "Export the table as CSV or JSONL, and choose that."),
        (rb"7z\xbc\xaf\x27\x1c|Rar!\x1a\x07", "is an archive", _UNPACK),
        (rb".{257}ustar", "is a tar archive", _UNPACK),
        (rb"BZh[1-9]1AY&SY|\xfd7zXZ\x00|\x04\x22\x4d\x18", "is packed in a way that is not read here", _UNPACK),
        (rb"\x89PNG|\xff\xd8\xff|GIF8|RIFF.{4}WEBP|II\*\x00|MM\x00\*", "is an image", _ONLY_TEXT),
        (rb"RIFF.{4}WAVE|ID3[\x02-\x04]|OggS|fLaC", "is a sound file", _ONLY_TEXT),
        (rb"\x00\x00\x00.ftyp|\x1aE\xdf\xa3|RIFF.{4}AVI ", "is a video", _ONLY_TEXT),
        (rb"ARROW1|\xff\xff\xff\xff..\x00\x00", "is an Arrow file", "Save it as Parquet or JSONL."),
        (rb"\x89HDF|\x93NUMPY", "holds numbers, not text", _WRITE),
        (rb"\x80[\x02-\x05]", "is an object that Python pickled", "Save it as JSONL: a pickle can run code."),
    )
)


def refuse_other(path: Path) -> None:
    """Raise BadInput for a file that is known to be something else than chat data."""
    with path.open("rb") as file:
        start = file.read(_START)
    for pattern, is_what, hint in _KINDS:
        if pattern.match(start):
            raise BadInput(f"The file {is_what}.", hint)
