"""Files that are no chat data are named by their kind, with what to do, whatever they are called."""

from __future__ import annotations

import gzip
import io
import sqlite3
import tarfile
import zipfile
from pathlib import Path

import pytest

from core.errors import BadInput
from core.home import Home
from tests.chat_data import from_upload

POINTED = "it names the data and does not hold it."
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def pack_zip(*names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in names:
            archive.writestr(name, "{}")
    return out.getvalue()


def pack_tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.add(__file__, "train.jsonl")
    return out.getvalue()


def make_database(folder: Path) -> bytes:
    connection = sqlite3.connect(folder / "a.db")
    connection.execute("create table rows (question, answer)")
    connection.commit()
    connection.close()
    return (folder / "a.db").read_bytes()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", POINTER, "is a Git LFS pointer: " + POINTED),
        ("a.parquet", POINTER, "is a Git LFS pointer: " + POINTED),
        ("a.jsonl.gz", gzip.compress(POINTER, mtime=0), "is a Git LFS pointer: " + POINTED),
        ("a.csv", b"/annex/objects/MD5E-s123--ab.csv\n", "is a git-annex pointer: " + POINTED),
        ("a.csv", b"../.git/annex/objects/x/y/MD5E-s123--ab", "is a git-annex pointer: " + POINTED),
        ("a.json", b"\n<!DOCTYPE html>\n<html><body>Sign in</body></html>", "is a web page, not the data."),
        ("a.jsonl", b'<html lang="en"><head>', "is a web page, not the data."),
        ("a.txt", b'<?xml version="1.0"?><rows/>', "is XML."),
        ("a.jsonl", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "is a PDF."),
        ("a.csv", pack_zip("[Content_Types].xml", "xl/workbook.xml"), "is an Excel workbook."),
        ("a.txt", pack_zip("[Content_Types].xml", "word/document.xml"), "is a Word document."),
        ("a.jsonl", pack_zip("train.jsonl"), "is a zip archive."),
        ("a.csv", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500), "is an old Excel workbook or Word document."),
        ("a.jsonl", pack_tar(), "is a tar archive."),
        ("a.jsonl", b"\xfd7zXZ\x00" + bytes(50), "is packed in a way that is not read here."),
        ("a.json", b"\x89PNG\r\n\x1a\n" + bytes(50), "is an image."),
        ("a.json", b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(50), "is an image."),
        ("a.jsonl", b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(50), "is a sound file."),
        ("a.jsonl", b"\x00\x00\x00\x20ftypisom" + bytes(50), "is a video."),
        ("a.jsonl", b"ARROW1\x00\x00" + bytes(50), "is an Arrow file."),
        ("a.jsonl", b"\x80\x04\x95\x10\x00", "is an object that Python pickled."),
    ],
)
def test_a_file_of_another_kind_is_called_by_it(home: Home, name: str, content: bytes, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        from_upload(name, content)
    assert caught.value.message == f"The file {said}"
    assert caught.value.hint.endswith(".")


def test_a_database_is_called_one(home: Home, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="The file is an SQLite database"):
        from_upload("a.jsonl", make_database(tmp_path))
