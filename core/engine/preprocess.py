"""Step 3: split the data by the service's rule and turn conversations into token ids and a mask of what is learned."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from core.engine.chat_template import BadConversation
from core.engine.chat_tokens import ChatTokens, Conversation
from core.engine.component import fill_defaults
from core.engine.conversations import ChatFile, check_enough, read_chat_file, split
from core.engine.step import Step, run, write_json
from core.engine.validate import load_tokens
from core.errors import BadInput

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class TokenRows:
    """Rows of one split, end to end. ids: int32 (tokens,); learned: bool (tokens,); offsets: int64 (rows + 1,)."""

    ids: np.ndarray
    learned: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row."""
        return np.diff(self.offsets)

    def row(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return ids and mask of a row."""
        start, end = int(self.offsets[index]), int(self.offsets[index + 1])
        return self.ids[start:end], self.learned[start:end]


def read_rows(path: Path) -> TokenRows:
    """Read a split that was written here."""
    with safe_open(str(path), framework="np") as file:
        return TokenRows(file.get_tensor("ids"), file.get_tensor("learned").astype(bool), file.get_tensor("offsets"))


def preprocess(step: Step) -> None:
    """Write outputs/{train,validation,test}.safetensors and preprocess.json."""
    values = fill_defaults(step.parameters)
    tokens = load_tokens(step.path("model_dir"))
    limit = int(values["max_seq_length"])
    limit = tokens.context_length if limit < 1 else min(limit, tokens.context_length)
    report: dict[str, Any] = {"max_seq_length": limit, "splits": {}}
    for name, chat_file in _read_splits(step, int(values["seed"])).items():
        rows, facts = _encode(tokens, chat_file, limit)
        if not len(rows):
            raise BadInput(
                f"No answer of the {name} data is left after cutting rows to {limit} tokens.", "Raise max_seq_length."
            )
        arrays = {"ids": rows.ids, "learned": rows.learned.astype(np.uint8), "offsets": rows.offsets}
        save_file(arrays, str(step.outputs / f"{name}.safetensors"))
        report["splits"][name] = facts
        step.say(
            f"{name}: {facts['rows']} rows, {facts['tokens']} tokens, {facts['trained_tokens']} of them learned, "
            f"longest {facts['longest']}, {facts['cut_rows']} cut at {limit}, {facts['empty_rows']} left out."
        )
    write_json(step.outputs / "preprocess.json", report)


def _read_splits(step: Step, seed: int) -> dict[str, ChatFile]:
    train = read_chat_file(step.path("train_file"))
    check_enough(train)
    others = [read_chat_file(path) if (path := step.find_path(f"{name}_file")) else None for name in SPLITS[1:]]
    return split(train, others[0], others[1], seed)


def _encode(tokens: ChatTokens, chat_file: ChatFile, limit: int) -> tuple[TokenRows, dict[str, int]]:
    """Tokenise; rows that are cut before the assistant speaks teach nothing and are left out."""
    try:
        encoded = tokens.encode_conversations(chat_file.conversations, chat_file.tools)
    except BadConversation as error:
        raise BadInput(f"{chat_file.name}: {error}", "Check the roles and their order.") from error
    cut = sum(len(each.ids) > limit for each in encoded)
    short = [Conversation(each.ids[:limit], each.learned[:limit]) for each in encoded]
    kept = [each for each in short if any(each.learned[1:])]  # nothing foretells the first token
    lengths = [len(each.ids) for each in kept]
    rows = TokenRows(
        ids=np.array([token for each in kept for token in each.ids], dtype=np.int32),
        learned=np.array([mark for each in kept for mark in each.learned], dtype=bool),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
    )
    facts = {
        "rows": len(kept),
        "tokens": len(rows.ids),
        "trained_tokens": int(rows.learned.sum()),
        "longest": max(lengths, default=0),
        "cut_rows": cut,
        "empty_rows": len(short) - len(kept),
    }
    return rows, facts


if __name__ == "__main__":
    run(preprocess)
