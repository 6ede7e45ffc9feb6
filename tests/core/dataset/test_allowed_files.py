"""Each way to a file of the server goes through one check, which says what is wrong and waits for nothing."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from core import dataset
from core.dataset.allowed_files import get_file
from core.errors import BadInput, NotFound, TunedeckError
from core.home import Home
from tests.chat_data import from_upload
from tests.core.dataset.test_sources import as_jsonl

Make = Callable[[Path], object]
LONG = "a" * 300


@pytest.fixture
def folder(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    monkeypatch.setenv("TUNEDECK_DATA_FOLDERS", str(allowed))
    return allowed


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(os.path.relpath(path))


def make_circle(path: Path) -> None:
    path.symlink_to(path.with_name("back"))
    path.with_name("back").symlink_to(path)


MADE: dict[str, tuple[Make, str]] = {
    "circle": (make_circle, "runs in a circle of links"),
    "itself": (lambda path: path.symlink_to(path), "runs in a circle of links"),
    "folder": (lambda path: path.mkdir(), "is a folder"),
    "pipe": (os.mkfifo, "is no file but a device or a pipe"),
    "pipe behind a link": (
        lambda path: (os.mkfifo(path.with_name("pipe")), path.symlink_to("pipe")),
        "is no file but a device or a pipe",
    ),
    "socket": (make_socket, "is no file but a device or a pipe"),
    "link out": (lambda path: path.symlink_to("/etc/passwd"), "is not in a folder that may be read"),
    "link to a device": (lambda path: path.symlink_to("/dev/zero"), "is not in a folder that may be read"),
    "dead link": (lambda path: path.symlink_to("gone"), "leads to no file on the server"),
    "missing": (lambda path: None, "leads to no file on the server"),
}


@pytest.mark.parametrize("kind", MADE)
def test_what_is_no_plain_file_of_the_folder_has_its_sentence(folder: Path, kind: str) -> None:
    make, said = MADE[kind]
    make(folder / "faq.jsonl")
    with pytest.raises(TunedeckError) as caught:
        dataset.start_path(folder / "faq.jsonl")
    assert said in caught.value.message
    assert caught.value.hint
    (folder / "good.jsonl").write_bytes(as_jsonl())
    with pytest.raises(TunedeckError, match=said):
        dataset.start_path(folder / "good.jsonl", folder / "faq.jsonl")
    shown = [path.name for path in dataset.list_files()]
    assert shown in (["good.jsonl"], ["faq.jsonl", "good.jsonl"], ["good.jsonl", "faq.jsonl"])
    assert ("faq.jsonl" in shown) == (kind == "link out"), "only plain files are offered"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("faq\0.jsonl", "holds characters"),
        ("\0", "holds characters"),
        ("faq\n.jsonl", "holds characters"),
        ("faq\udcff.jsonl", "holds characters"),
        (f"{LONG}.jsonl", "is longer than the system allows"),
        ("a/" * 3000 + "faq.jsonl", "is longer than the system allows"),
        ("good.jsonl/faq.jsonl", "leads to no file on the server"),
        ("../other.jsonl", "is not in a folder that may be read"),
        (".", "is a folder"),
    ],
)
def test_a_path_that_none_can_have_has_its_sentence(folder: Path, path: str, said: str) -> None:
    (folder / "good.jsonl").write_bytes(as_jsonl())
    with pytest.raises(TunedeckError) as caught:
        dataset.start_path(f"{folder}/{path}")
    assert said in caught.value.message
    assert caught.value.hint
    assert len(caught.value.message.encode()) < 300


@pytest.mark.parametrize("path", ["~nobody-of-that-name/faq.jsonl", "~nobody-of-that-name"])
def test_a_user_who_is_not_there_has_a_sentence(folder: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match="there is no such user here"):
        dataset.start_path(path)
    monkeypatch.setenv("TUNEDECK_DATA_FOLDERS", f"{folder}:{path}")
    for read in (dataset.list_folders, dataset.list_files, lambda: dataset.start_path(folder / "faq.jsonl")):
        with pytest.raises(BadInput) as caught:
            read()
        assert "TUNEDECK_DATA_FOLDERS names '~nobody-of-that-name" in caught.value.message


def test_the_home_folder_of_the_dashboards_user_is_followed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    (folder / "faq.jsonl").write_bytes(as_jsonl())
    assert get_file("~/faq.jsonl") == folder / "faq.jsonl"
    assert dataset.start_path("~/faq.jsonl").state == "done"
    assert (folder / "faq.jsonl").read_bytes() == as_jsonl()
    with pytest.raises(NotFound):
        get_file("~/none.jsonl")


def test_a_folder_of_the_variable_that_runs_in_a_circle_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_circle(folder / "loop")
    monkeypatch.setenv("TUNEDECK_DATA_FOLDERS", str(folder / "loop"))
    with pytest.raises(BadInput, match=r"TUNEDECK_DATA_FOLDERS names .* runs in a circle of links"):
        dataset.list_folders()


def test_a_name_that_is_not_utf8_is_not_offered_and_refused(folder: Path) -> None:
    (folder / "faq.jsonl").write_bytes(as_jsonl())
    with open(os.fsencode(folder) + b"/caf\xe9.jsonl", "wb") as file:
        file.write(as_jsonl())
    assert [path.name for path in dataset.list_files()] == ["faq.jsonl"]
    with pytest.raises(BadInput, match="holds characters"):
        get_file(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.jsonl"))


def test_what_the_dashboards_user_may_not_read_has_its_sentence(folder: Path) -> None:
    """As another user, for the tests may run as one who may read everything."""
    for name in ("faq.jsonl", "closed/faq.jsonl"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(as_jsonl())
    (folder / "faq.jsonl").chmod(0)
    (folder / "closed").chmod(0)
    for parent in folder.parents[:-1]:
        if parent.stat().st_uid == os.geteuid():
            parent.chmod(parent.stat().st_mode | 0o011)
    folder.chmod(0o755)
    script = (
        "import os, sys\nfrom core import dataset, errors\nif os.geteuid() == 0: os.setuid(65534)\n"
        "print([one.name for one in dataset.list_files()])\nfor name in sys.argv[1:]:\n"
        "    try: dataset.start_path(name)\n    except errors.BadInput as error: print(error)"
    )
    command = [sys.executable, "-c", script, str(folder / "faq.jsonl"), str(folder / "closed" / "faq.jsonl")]
    ran = subprocess.run(command, cwd=Path(__file__).parents[3], check=True, capture_output=True, text=True)
    (folder / "closed").chmod(0o700)
    listed, *said = ran.stdout.splitlines()
    assert listed == "['faq.jsonl']"
    assert len(said) == 2
    assert all("may not be read by the dashboard's user. Change its permissions" in one for one in said)


@pytest.mark.parametrize("name", ["faq\0.jsonl", "faq\udcff.jsonl", "a\nb.jsonl", f"{LONG}.jsonl", "é" * 130])
def test_a_name_from_a_browser_that_none_can_have_has_its_sentence(home: Home, name: str) -> None:
    for given in ((name, "faq.jsonl"), ("faq.jsonl", name)):
        with pytest.raises(BadInput, match="Rename the file") as caught:
            dataset.start_upload(given[0], as_jsonl(), as_jsonl(), test_name=given[1])
        caught.value.message.encode()
    assert list(home.datasets.glob(".preparing/*")) == []


@pytest.mark.parametrize("name", ["../../faq.jsonl", "C:\\data\\faq.jsonl", "/etc/faq.jsonl"])
def test_folders_in_a_name_from_a_browser_are_not_kept(home: Home, name: str) -> None:
    assert from_upload(name, as_jsonl()).source == "uploaded file faq.jsonl"


@pytest.mark.parametrize("key", ["../x", "x" * 300, "a" * 300, "x\0", "\udcff", "é", "~root"])
def test_an_address_that_names_no_preparation_or_model_finds_none(home: Home, key: str) -> None:
    with pytest.raises(NotFound) as caught:
        dataset.read_preparation(key)
    caught.value.message.encode()
    assert dataset.read_preview(key) is None
    dataset.cancel_preparation(key)
    assert dataset.find_dataset(key) is None
    assert dataset.find_tokenizer(key, "1") is None
    assert dataset.find_tokenizer("tiny-chat", key) is None
