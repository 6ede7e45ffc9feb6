"""Chat data taken into the home as an operator takes it, and waited for."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from core import dataset
from core.dataset import ChatDataset, Preparation
from tests.waiting import wait_until

CASES = Path(__file__).parent / "data" / "chat"  # small files, each of a kind of which something was read wrong


def from_upload(
    name: str, content: bytes | BinaryIO, test: bytes | BinaryIO | None = None, tokenizer: Path | None = None
) -> ChatDataset:
    return take(dataset.start_upload(name, content, test, tokenizer))


def take(preparation: Preparation) -> ChatDataset:
    """Return the data set that a preparation ends in; raises the error that it ends in."""
    ended = finish(preparation)
    if ended.error:
        raise ended.error
    assert ended.dataset is not None, ended
    return ended.dataset


def finish(preparation: Preparation) -> Preparation:
    def read() -> Preparation | None:
        now = dataset.read_preparation(preparation.id)
        return now if now.state.finished else None

    return wait_until(read, lambda: dataset.read_preparation(preparation.id))
