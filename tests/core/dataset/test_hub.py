"""The real `datasets`, against a hub on loopback."""

from __future__ import annotations

import io
import random
import threading
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from core import dataset
from core.errors import BadInput, NotFound, Unreachable
from core.home import Home
from tests.chat_data import take
from tests.core.dataset.hub_server import serving
from tests.soak import is_soak

ROWS = 4000


def parquet(first: int, rows: int, words: int) -> bytes:
    chance = random.Random(first)
    records = [
        {
            "prompt": f"q{n}",
            "prompt_id": str(n),
            "messages": [
                {"role": "user", "content": f"q{n}"},
                {"role": "assistant", "content": f"{chance.getrandbits(words):x}"},
            ],
        }
        for n in range(first, first + rows)
    ]
    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), out, row_group_size=100)
    return out.getvalue()


CARD = f"""---
dataset_info:
  config_name: default
  splits:
  - name: train_sft
    num_bytes: 60000000
    num_examples: {ROWS}
  - name: test_sft
    num_bytes: 100000
    num_examples: 200
  download_size: 60100000
  dataset_size: 60100000
configs:
- config_name: default
  data_files:
  - split: train_sft
    path: data/train_sft-*
  - split: test_sft
    path: data/test_sft-*
---
""".encode()


def test_a_share_of_a_data_set_is_streamed_and_not_all_of_it_fetched(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """About 8 s: processes that import `datasets`, and 20 MB of which few are asked for."""
    files = {f"data/train_sft-{part:05d}-of-00004.parquet": parquet(part * 1000, 1000, 20_000) for part in range(4)}
    files |= {"data/test_sft-00000-of-00001.parquet": parquet(9000, 200, 400), "README.md": CARD}
    with serving({"someone/chats": files}, token="hf_secret") as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        with pytest.raises(NotFound) as caught:
            take(dataset.start_hub("someone/chats", split="train_sft", percent=5))
        assert "HF_TOKEN" in caught.value.hint
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        found = take(dataset.start_hub("someone/chats", split="train_sft", percent=5))
        assert (found.rows, found.test_rows, found.usable) == (200, 10, True)
        assert found.source == "Hugging Face: someone/chats, train_sft[0%:5%]"
        whole = sum(len(content) for name, content in files.items() if "train" in name)
        given = sum(count for name, count in hub.given.items() if "train" in name)
        assert given < whole / 2, f"{given:,} of {whole:,} bytes"
        few = take(dataset.start_hub("someone/chats", split="train_sft", rows=30))
        assert (few.rows, few.source) == (30, "Hugging Face: someone/chats, train_sft[:30]")
        with pytest.raises(BadInput) as refused:
            take(dataset.start_hub("someone/chats", split="train", percent=5))
        assert refused.value.hint == "It has train_sft, test_sft."


@pytest.mark.parametrize("name", ["core/sample", "json"])
def test_what_is_a_folder_or_a_reader_of_files_here_is_looked_for_on_the_hub_alone(
    home: Home, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """About 3 s each: a process that imports `datasets`. Its working folder holds core/sample, and JSON to read."""
    with serving({"someone/chats": {"README.md": CARD}}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        with pytest.raises(NotFound, match=f"The data set '{name}' was not found on Hugging Face"):
            take(dataset.start_hub(name))


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "~",
        "~root",
        "/etc",
        "./core/sample",
        "../core",
        "core/../core/sample",
        "C:\\data",
        "\\\\server\\x",
        "hf://datasets/a/b",
        "hf://buckets/a/b",
        "https://host/a",
        "file:///etc",
        "s3://a/b",
        "a b",
        "a/b/c",
        "a//b",
        "/a",
        "a/",
        "a--b/c",
        "a/b\0",
        "a\nb",
        "é/ü",
        "a/\udcff",
        "a" * 97,
        "a/b@main",
        "a/b:train",
        "data.git",
        "{a,b}",
        "*",
    ],
)
def test_a_name_that_is_none_of_the_hubs_is_refused_before_anything_starts(home: Home, name: str) -> None:
    with pytest.raises(BadInput) as refused:
        dataset.start_hub(name)
    assert refused.value.message.endswith("is not the name of a Hugging Face data set.")
    assert refused.value.hint
    refused.value.message.encode()
    assert list(home.datasets.glob(".preparing/*")) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"split": "train[:5]"},
        {"split": "../x"},
        {"split": "a b"},
        {"test_split": "test[:5]"},
        {"test_split": "x/y"},
        {"config": "../x"},
        {"config": "a\0"},
        {"config": "/etc"},
        {"config": "\udcff"},
        {"config": "a" * 300},
        {"percent": 0},
        {"percent": 2.5},
        {"percent": float("nan")},
        {"percent": float("inf")},
        {"rows": 0},
        {"rows": 10**30},
    ],
)
def test_a_part_that_cannot_be_is_refused_before_anything_starts(home: Home, wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput) as refused:
        dataset.start_hub("a/b", **wrong)
    refused.value.message.encode()
    assert list(home.datasets.glob(".preparing/*")) == []


@pytest.mark.soak
@pytest.mark.skipif(not is_soak(), reason="ten seconds: only under TUNEDECK_SOAK")
def test_a_hub_that_is_slow_to_begin_is_waited_for(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """About 10 s, 6 of which the hub lets pass before it says anything: a line or a machine that is busy."""
    files = {"data/train_sft-00000-of-00001.parquet": parquet(0, 200, 400), "README.md": CARD}
    files["data/test_sft-00000-of-00001.parquet"] = parquet(9000, 200, 400)
    with serving({"someone/chats": files}) as hub:
        hub.before_answer = lambda number: number > 1 or not threading.Event().wait(6)
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        few = take(dataset.start_hub("someone/chats", split="train_sft", rows=30))
    assert (few.rows, few.source) == (30, "Hugging Face: someone/chats, train_sft[:30]")


def test_a_hub_that_says_nothing_is_told_when_the_operators_patience_ends(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = threading.Event()
    with serving({}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "1")
        hub.before_answer = lambda _: held.wait(60)
        with pytest.raises(Unreachable, match="did not answer within 1 s"):
            take(dataset.start_hub("someone/chats", split="train_sft", rows=30))
        held.set()
