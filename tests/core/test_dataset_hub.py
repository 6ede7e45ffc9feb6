"""The real `datasets`, against a hub on loopback."""

from __future__ import annotations

import io
import random

import pyarrow
import pyarrow.parquet
import pytest

from core import dataset
from core.errors import NotFound
from core.home import Home
from tests.core.hub_server import serving

ROWS = 4000


def parquet(first: int, rows: int, words: int) -> bytes:
    chance = random.Random(first)
    records = [{"prompt": f"q{n}", "prompt_id": str(n), "messages": [
        {"role": "user", "content": f"q{n}"},
        {"role": "assistant", "content": f"{chance.getrandbits(words):x}"},
    ]} for n in range(first, first + rows)]  # fmt: skip
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
    """About 10 s: two processes that import `datasets`, and 60 MB of which few are asked for."""
    files = {f"data/train_sft-{part:05d}-of-00004.parquet": parquet(part * 1000, 1000, 60_000) for part in range(4)}
    files |= {"data/test_sft-00000-of-00001.parquet": parquet(9000, 200, 400), "README.md": CARD}
    with serving({"someone/chats": files}, token="hf_secret") as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        with pytest.raises(NotFound) as caught:
            dataset.from_hub("someone/chats", split="train_sft", percent=5)
        assert "HF_TOKEN" in caught.value.hint
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        found = dataset.from_hub("someone/chats", split="train_sft", percent=5)
        assert (found.rows, found.test_rows, found.usable) == (200, 10, True)
        assert found.source == "Hugging Face: someone/chats, train_sft[0%:5%]"
        whole = sum(len(content) for name, content in files.items() if "train" in name)
        given = sum(count for name, count in hub.given.items() if "train" in name)
        assert given < whole / 2, f"{given:,} of {whole:,} bytes"
        few = dataset.from_hub("someone/chats", split="train_sft", rows=30)
        assert (few.rows, few.source) == (30, "Hugging Face: someone/chats, train_sft[:30]")
        with pytest.raises(NotFound):
            dataset.from_hub("someone/else", split="train_sft", percent=5)
