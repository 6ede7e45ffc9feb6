"""Which rows a run trains on, and how long each is once it is cut, known before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.dataset import NO_TOKENIZER, ChatDataset, read_lengths
from core.engine.splits import deal

Lengths = NDArray[np.int64]


@dataclass(frozen=True)
class RunRows:
    """The rows of a run, dealt and cut as the pipeline does it."""

    splits: Mapping[str, Lengths]
    """Tokens of each row that is read, for "train", "validation" and "test"."""
    answerless: Mapping[str, int]
    """Rows of each split that are left out: the cut leaves no answer."""
    limit: int
    """Tokens after which a row is cut; -1 where that is not known."""
    cut: int
    """Rows that lose their end, those without an answer among them."""
    conversations: int
    """Rows of the training file that hold one."""
    is_tested: bool
    """Whether there is a test file."""
    alone: int
    """Rows of the training file that are left out, for they are one message alone."""
    least: int
    """The smallest limit with which an answer of each split is left."""
    longest: int
    """Tokens of the longest row before it is cut."""
    measured: bool
    """Whether the model's own tokens were counted; else all of this is an estimate."""

    @property
    def train(self) -> Lengths:
        """Tokens of each row that is trained on."""
        return self.splits["train"]

    @property
    def empty_split(self) -> str:
        """The first split of which no row is left, "" where each has some; the pipeline refuses such data."""
        return next((name for name, lengths in self.splits.items() if not len(lengths)), "")


def deal_rows(dataset: ChatDataset, limit: int, seed: int) -> RunRows:
    """Return the rows of a run that cuts after `limit` tokens (-1: nowhere). Reads the tables beside the data."""
    lengths, firsts = read_lengths(dataset.train_path, dataset.mark)
    missing = ["validation"] if dataset.test_path else ["validation", "test"]
    dealt = deal(len(lengths), seed, missing)
    given = {name: (lengths[places], firsts[places]) for name, places in dealt.items()}
    if dataset.test_path:
        given["test"] = read_lengths(dataset.test_path, dataset.mark)
    at = limit if limit > 0 else np.iinfo(np.int64).max
    every = np.concatenate([tokens for tokens, _ in given.values()])
    learned = [firsts[firsts < tokens] for tokens, firsts in given.values()]
    return RunRows(
        splits={
            name: np.minimum(tokens, at)[firsts < np.minimum(tokens, at)] for name, (tokens, firsts) in given.items()
        },
        answerless={name: int((firsts >= np.minimum(tokens, at)).sum()) for name, (tokens, firsts) in given.items()},
        limit=limit,
        cut=int((every > at).sum()),
        conversations=len(lengths),
        is_tested=dataset.test_path is not None,
        alone=dataset.rows - len(lengths),
        least=max((int(places.min()) + 1 for places in learned if len(places)), default=1),
        longest=int(every.max(initial=0)),
        measured=dataset.mark != NO_TOKENIZER,
    )
