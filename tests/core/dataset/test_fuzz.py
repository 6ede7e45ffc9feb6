"""Files nobody should have: each becomes findings or a sentence with a place, in time and in memory, and none a crash.

150 of them in `make test`, 10,000 in `make soak`.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from core.dataset import sources
from core.errors import BadInput
from core.home import Home
from core.locks import is_held
from tests.chat_data import from_upload
from tests.soak import Soak
from tests.waiting import wait_until

SLOWEST_S = 5.0  # of processor time
STARTED = 100  # one file in so many goes through a process of its own, as large ones do in a dashboard


def clean(chance: random.Random, rows: int = 14) -> bytes:
    return b"\n".join(
        json.dumps(
            {
                "messages": [
                    {"role": "user", "content": f"q{n} {chance.random()}"},
                    {"role": "assistant", "content": "a é 🙂" * chance.randint(1, 5)},
                ]
            },
            ensure_ascii=chance.random() < 0.5,
        ).encode()
        for n in range(rows)
    )


def truncated(chance: random.Random) -> tuple[str, bytes]:
    whole = clean(chance)
    return "a.jsonl", whole[: chance.randrange(len(whole))]


def flipped(chance: random.Random) -> tuple[str, bytes]:
    raw = bytearray(clean(chance))
    for _ in range(chance.randint(1, 40)):
        raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
    return "a.jsonl", bytes(raw)


def nested(chance: random.Random) -> tuple[str, bytes]:
    deep = chance.choice([100, 900, 1100, 50_000, 300_000])
    opener, closer = chance.choice([(b"[", b"]"), (b'{"a":', b"}")])
    inside = opener * deep + b"1" + closer * chance.choice([0, deep])
    return chance.choice(["a.jsonl", "a.json"]), chance.choice([inside, b'{"messages": ' + inside + b"}"])


def gigantic(chance: random.Random) -> tuple[str, bytes]:
    long = b"x" * chance.choice([100_000, 1_500_000, 3_000_000])
    row = b'{"messages": [{"role": "user", "content": "' + long + b'"}, {"role": "assistant", "content": "a"}]}'
    return "a.jsonl", clean(chance) + b"\n" + chance.choice([row, row[:-3], long, b'{"a' + long])


def recoded(chance: random.Random) -> tuple[str, bytes]:
    encoding = chance.choice(["utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp037", "utf-8-sig", "utf-7"])
    return chance.choice(["a.jsonl", "a.csv", "a.json"]), clean(chance).decode().encode(encoding, "replace")


def table(chance: random.Random) -> tuple[str, bytes]:
    long = "x" * chance.choice([2_000, 2_000, 20_000, 200_000])  # a row may hold 400 of them
    cells = ["q", '"', '""', '"a\nb"', "=cmd|' /C calc'!A0", "a,b", "\0", long, "é", "\r", "'", "\t"]
    lines = [",".join(chance.choices(cells, k=chance.choice([1, 2, 2, 2, 3, 400]))) for _ in range(20)]
    head = chance.choice(["question,answer", "a,b", "", "question;answer"])
    return chance.choice(["a.csv", "a.tsv"]), "\n".join([head, *lines]).encode()


def packed(chance: random.Random) -> tuple[str, bytes]:
    whole = bytearray(gzip.compress(clean(chance)))
    for _ in range(chance.randint(0, 3)):
        whole[chance.randrange(len(whole))] ^= 0xFF
    return "a.jsonl.gz", bytes(whole[: chance.randint(5, len(whole))])


def bomb(chance: random.Random) -> tuple[str, bytes]:
    return "a.jsonl.gz", gzip.compress(bytes([chance.randrange(256)]) * chance.choice([1_000_000, 120_000_000]), 1)


def odd_parquet(chance: random.Random) -> tuple[str, bytes]:
    columns = {
        "a": pyarrow.array([[b"x", None]] * 12),
        "b": pyarrow.array([{"k": [1.5, None]}] * 12),
        "c": pyarrow.array([None] * 12, pyarrow.timestamp("ns", "UTC")),
        "d": pyarrow.array([10**15] * 12, pyarrow.decimal128(38, 3)),
        "e": pyarrow.array(["x", "y"] * 6).dictionary_encode(),
        "messages": pyarrow.array([[("role", "user")]] * 12, pyarrow.map_(pyarrow.string(), pyarrow.string())),
        "g": pyarrow.array([float("nan")] * 12),
        "question": pyarrow.array([b"\xff\xfe"] * 12),
        "answer": pyarrow.array(["a"] * 12, pyarrow.large_string()),
    }
    chosen = chance.sample(sorted(columns), chance.randint(1, 5))
    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({name: columns[name] for name in chosen}), out)
    raw = bytearray(out.getvalue())
    if chance.random() < 0.5:
        raw[chance.randrange(len(raw))] ^= 0xFF
    return "a.parquet", bytes(raw)


def odd_values(chance: random.Random) -> tuple[str, bytes]:
    odd = [None, True, 1e308, 10**400, "", "\ud800", [], {}, [[]], {"role": "user"}, "x\0y", -0.0, "ï»¿"]

    def some(depth: int = 0) -> object:
        if depth > 3 or chance.random() < 0.5:
            return chance.choice(odd)
        if chance.random() < 0.5:
            return [some(depth + 1) for _ in range(chance.randrange(4))]
        names = ["messages", "role", "content", "conversations", "from", "value", "tools", "instruction", "output"]
        return {chance.choice(names): some(depth + 1) for _ in range(chance.randrange(4))}

    return chance.choice(["a.jsonl", "a.json"]), b"\n".join(json.dumps(some()).encode() for _ in range(14))


def noise(chance: random.Random) -> tuple[str, bytes]:
    marks = [b"", b"PAR1", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"[", b"{", b"\xef\xbb\xbf", b"\xff\xfe"]
    return chance.choice(["a.jsonl", "a.csv", "a"]), chance.choice(marks) + chance.randbytes(chance.randrange(3000))


KINDS: list[tuple[int, Callable[[random.Random], tuple[str, bytes]]]] = [
    (90, truncated),
    (110, flipped),
    (60, nested),
    (12, gigantic),
    (50, recoded),
    (60, table),
    (50, packed),
    (2, bomb),
    (40, odd_parquet),
    (110, odd_values),
    (60, noise),
]


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """A home in memory where the platform has such a folder: how long a busy disk takes is not what is measured."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        monkeypatch.setenv("TUNEDECK_HOME", folder)
        yield Home(Path(folder)).create()


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_no_file_crashes_hangs_or_fills_the_memory(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some 4 s: 150 files, each through the whole of an upload; 10,000 in a soak.

    Large ones too are taken in this process, whose memory and processor time are measured; a process for each would
    cost its imports, which are not what is tried here, and one in STARTED pays them.
    """
    weights = [weight for weight, _ in KINDS]
    with Soak("chat-files", quick=150, long=10_000, what="files that nobody should have, as chat data") as soak:
        for number, chance in soak.rounds():
            if number % 10 == 0:  # each preparation looks for old ones, which are not what is measured here
                wait_until(lambda: no_worker_writes(home), lambda: list(home.datasets.rglob("*")))
                shutil.rmtree(home.datasets)
                home.datasets.mkdir()
            kind = chance.choices([kind for _, kind in KINDS], weights)[0]
            name, content = kind(chance)
            monkeypatch.setattr(sources, "INLINE_BYTES", 0 if number % STARTED == STARTED - 1 else 1 << 40)
            begun, before = time.process_time(), read_peak()
            take(name, content, f"seed {soak.seed}, round {number}, {kind.__name__}")
            took = time.process_time() - begun
            soak.worst("slowest, s of processor time", round(took, 1))
            assert took < SLOWEST_S, (number, kind.__name__, len(content))
            assert read_peak() - before < 300 << 20, (number, kind.__name__, len(content))


def no_worker_writes(home: Home) -> bool:
    """Tell whether the longer checks have ended too: they go on after a file is taken."""
    return not any(is_held(lock) for lock in home.datasets.glob(".preparing/*/alive.lock"))


def read_peak() -> int:
    """Return the most memory that this process ever held, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def take(name: str, content: bytes, where: str) -> None:
    """Upload a file; it is refused in a sentence, or its findings are said, or nothing is wrong with it."""
    try:
        found = from_upload(name, content)
    except BadInput as error:
        said = error.message
    else:
        said = "Checked."
        assert found.usable or found.findings, where
        assert all(one.example and one.kind.fix for one in found.findings), where
    assert said.endswith("."), (where, said)
