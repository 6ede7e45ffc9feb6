"""Every form a file comes in gives the same data set; what cannot be read says where; nothing half-written stays."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from core import dataset
from core.azureml.connection import Connection
from core.errors import BadInput, NotFound
from core.home import Home
from tests.chat_data import from_upload, take

ROWS = [{"question": f'q{n}, "so"\nand é', "answer": f"a{n}\t–"} for n in range(40)]


def as_jsonl() -> bytes:
    return "\n".join(json.dumps(row) for row in ROWS).encode()


def as_table(delimiter: str) -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, ["question", "answer"], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(ROWS)
    return out.getvalue().encode()


def as_parquet() -> bytes:
    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), out)
    return out.getvalue()


def pack_zstandard(content: bytes, path: Path) -> bytes:
    with pyarrow.OSFile(str(path), "wb") as file, pyarrow.CompressedOutputStream(file, "zstd") as stream:
        stream.write(content)
    return path.read_bytes()


def test_every_form_of_a_file_gives_the_same_data_set(home: Home, tmp_path: Path) -> None:
    wanted = from_upload("faq.jsonl", as_jsonl())
    assert (wanted.usable, wanted.rows, wanted.test_rows) == (True, 36, 4)
    forms = {
        "faq.json": json.dumps(ROWS, indent=1).encode(),
        "export.json": json.dumps({"version": 1, "data": ROWS}, indent=1).encode(),
        "faq.csv": as_table(","),
        "semicolons.csv": as_table(";"),
        "faq.tsv": as_table("\t"),
        "faq.parquet": as_parquet(),
        "faq.jsonl.gz": gzip.compress(as_jsonl()),
        "faq.csv.gz": gzip.compress(as_table(",")),
        "faq.jsonl.zst": pack_zstandard(as_jsonl(), tmp_path / "x.zst"),
        "faq.parquet.gz": gzip.compress(as_parquet()),
    }
    for name, content in forms.items():
        found = from_upload(name, content)
        assert found.key == wanted.key, name


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"q,q\n1,2\n", "names the column 'q' twice"),
        ("a.csv", b"question\nq\n", "names fewer than two columns"),
        ("a.csv", b'question,answer,"note\nq,a,b\n', "its first line cannot be read"),
        ("a.csv", b"", "names fewer than two columns"),
        ("a.jsonl.gz", gzip.compress(as_jsonl())[:-20], "The gzip file ends too early or is damaged"),
        ("a.jsonl.gz", gzip.compress(gzip.compress(as_jsonl())), "The file is packed twice."),
        ("a.jsonl.zst", b"\x28\xb5\x2f\xfd" + b"\0" * 50, "The zstandard file ends too early or is damaged"),
        ("a.parquet", as_parquet()[:300], "The Parquet file cannot be read."),
        ("a.parquet", as_parquet().replace(b"question", b"quest\x92on"), "The Parquet file cannot be read."),
        ("a.json", b'{\n "data": [\n', "The JSON file cannot be read at line 3, character 1"),
    ],
)
def test_a_file_that_cannot_be_read_says_where(home: Home, name: str, content: bytes, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        from_upload(name, content)
    assert said in caught.value.message
    assert caught.value.hint
    assert [path for path in home.datasets.rglob("*") if path.suffix in (".jsonl", ".part", ".unpacked")] == []


def test_a_file_that_would_fill_the_disk_is_refused(home: Home) -> None:
    """About 1 s: 150 MB of zeros in 150 kB."""
    with pytest.raises(BadInput, match="grows to more than 300 times its size"):
        from_upload("bomb.jsonl.gz", gzip.compress(b"\0" * 150_000_000, 9))


def test_the_first_rows_and_findings_are_there_while_the_rest_is_checked(home: Home) -> None:
    incoming = home.path / "incoming"
    incoming.mkdir()
    lines = as_jsonl().split(b"\n") * 4000
    lines[7] = b"{"
    (incoming / "big.jsonl").write_bytes(b"\n".join(lines))
    begun = time.monotonic()
    started = dataset.start_path(incoming / "big.jsonl")
    preview = dataset.read_preview(started.id)
    assert time.monotonic() - begun < 5
    assert preview is not None
    assert (len(preview.rows), preview.shape.name) == (50, "columns")
    assert preview.rows[0].messages[0]["content"] == ROWS[0]["question"]
    assert [(one.code, one.lines) for one in preview.findings] == [("not_json", (8,))]
    dataset.cancel_preparation(started.id)
    assert [path for path in home.datasets.rglob("*") if path.suffix == ".jsonl"] == []


def test_a_split_keeps_copies_together_and_follows_its_seed(home: Home) -> None:
    content = "\n".join(json.dumps(row) for row in (ROWS + ROWS[:20]) * 2).encode()
    first = _split(content, 30, 1)
    assert first == _split(content, 30, 1) != _split(content, 30, 2)
    train, test = first
    assert not set(train) & set(test)
    assert 25 <= len(test) <= 36
    none = dataset.start_upload("x.jsonl", content, test_percent=0).dataset
    assert none is not None
    assert none.test_path is None
    with pytest.raises(BadInput, match="95% of the rows cannot be kept"):
        dataset.start_upload("x.jsonl", content, test_percent=95)


def _split(content: bytes, percent: float, seed: int) -> tuple[list[str], list[str]]:
    found = dataset.start_upload("x.jsonl", content, test_percent=percent, seed=seed).dataset
    assert found is not None
    assert found.test_path is not None
    assert (f"the seed {seed}" in found.split_note, "copies stay together" in found.split_note) == (True, True)
    return _said(found.train_path), _said(found.test_path)


def _said(path: Path) -> list[str]:
    return [row.messages[0]["content"] for row in dataset.read_rows(path, 0, 1000)]


def test_a_repaired_copy_is_the_next_version(home: Home) -> None:
    lines = [*as_jsonl().split(b"\n"), b"{", as_jsonl().split(b"\n")[0]]
    broken = from_upload("faq.jsonl", b"\n".join(lines))
    assert not broken.usable
    made: Any = dataset.start_repair(broken).dataset
    assert (made.usable, made.name, made.rows + made.test_rows) == (True, "faq", 40)
    previous = dataset.find_previous(made)
    assert previous is not None
    assert previous.key == broken.key


def test_a_data_asset_of_the_workspace_is_taken_back(conn: Connection) -> None:
    sample = dataset.load_sample()
    dataset.register_data(conn, sample, dataset.upload(conn, sample))
    started = dataset.start_asset(conn, "sample-train", "1")
    assert started.dataset is not None
    assert started.dataset.source == "data asset sample-train:1"
    assert started.dataset.rows + started.dataset.test_rows == sample.rows


def test_a_broken_upload_goes_on_where_it_was(conn: Connection) -> None:
    """About 3 s: 13 MB in blocks of 4 MiB, of which the first upload sends two and breaks."""
    rows = [{"question": f"q{n}", "answer": "a" * 9_000 + str(n)} for n in range(1_400)]
    found = from_upload("big.jsonl", "\n".join(json.dumps(row) for row in rows).encode())

    class Unplugged(Exception):
        pass

    def unplug(done: int, total: int) -> None:
        if done >= 8 << 20:
            raise Unplugged

    with pytest.raises(Unplugged):
        dataset.upload(conn, found, unplug)
    heard: list[int] = []
    sent = dataset.upload(conn, found, lambda done, total: heard.append(done))
    total = found.train_path.stat().st_size + (found.test_path.stat().st_size if found.test_path else 0)
    assert heard[0] >= 8 << 20
    assert sent.bytes_sent <= total - (8 << 20)
    assert heard[-1] == total
    assets = dataset.register_data(conn, found, sent)
    tags = conn.workspace.data.get("big-train", assets.version).tags
    assert tags["findings"] == "none"
    assert tags["tokens_estimate"] == str(found.stats.total_length)
    taken = take(dataset.start_asset(conn, "big-train", assets.version))
    assert taken.rows + taken.test_rows == found.rows


def test_a_file_of_copies_alone_keeps_all_its_rows_for_training(home: Home) -> None:
    line = json.dumps({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]})
    found = from_upload("copies.jsonl", "\n".join([line] * 40).encode())
    assert (found.rows, found.test_rows, found.usable) == (40, 0, True)
    assert "Too many rows say the same" in found.split_note


def test_a_file_of_the_browser_lies_in_the_home_under_a_name_of_ours(home: Home) -> None:
    name = "../../faq.jsonl"
    first = dataset.keep_given(name, io.BytesIO(b"old"))
    long_ago = time.time() - 2 * 24 * 3600
    os.utime(first.path, (long_ago, long_ago))
    given = dataset.keep_given(name, io.BytesIO(as_jsonl()))
    assert (given.name, given.size, given.path.parent) == (name, len(as_jsonl()), home.datasets / ".given")
    assert list(given.path.parent.iterdir()) == [given.path], "what was left on an earlier day goes"
    with given.path.open("rb") as rows:
        assert from_upload(given.name, rows.read()).rows == 36
    assert dataset.is_kept(given)
    dataset.forget_given(given)
    dataset.forget_given(given)
    assert not dataset.is_kept(given)
    assert list(given.path.parent.iterdir()) == []


def test_a_file_that_the_disk_does_not_take_is_named_and_nothing_stays(home: Home) -> None:
    """In a process of its own, whose files may not grow beyond a kilobyte."""
    script = (
        "import io, resource\nfrom core import dataset, errors\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n    dataset.keep_given('faq.jsonl', io.BytesIO(b'x' * 5000))\n"
        "except errors.BadInput as error:\n    print(error.message, error.hint)"
    )
    environment = os.environ | {"TUNEDECK_HOME": str(home.path), "PYTHONPATH": str(Path(__file__).parents[3])}
    ran = subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True)
    assert ran.stdout == (
        "faq.jsonl could not be kept in the home folder: File too large. Free some space, and choose the file again.\n"
    )
    assert list((home.datasets / ".given").iterdir()) == []


def test_a_file_is_read_again_with_another_mapping_without_being_given_again(home: Home) -> None:
    first = dataset.start_upload("faq.csv", as_table(","))
    turned = take(dataset.read_again(first.id, {"user": "answer", "assistant": "question"}))
    assert turned.name == "faq"
    assert dataset.read_rows(turned.train_path)[0].messages[0]["content"].startswith("a")
    os.utime(home.datasets / ".preparing" / first.id, (0, time.time() - 2 * 3600))
    dataset.start_upload("other.csv", as_table(","))
    with pytest.raises(NotFound, match="not kept any more"):
        dataset.read_again(first.id, {"user": "answer", "assistant": "question"})
