"""Fetches a part of a Hugging Face data set as JSONL. Runs in the worker's process only: `datasets` is large."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from core.dataset.files import TEST, TRAIN
from core.errors import BadInput, NotFound, Unreachable

_DEFAULT_ENDPOINT = "https://huggingface.co"
_KEPT_COLUMNS = ("prompt", "messages", "prompt_id")  # the service drops all but the messages

Tell = Callable[[str, int, int], None]


def check_request(name: str, split: str, percent: float) -> None:
    """Raise BadInput where a data set's name, split or percentage cannot be one."""
    if not (re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or _is_folder(name)):
        raise BadInput(f"'{name}' is not a data set's name.", "Names look like HuggingFaceH4/ultrachat_200k.")
    if not re.fullmatch(r"\w[\w.-]*", split):
        raise BadInput(f"'{split}' is not a split's name.", "Splits are called train_sft, test_sft, train, test …")
    if percent != int(percent) or not 1 <= percent <= 100:
        raise BadInput(f"{percent:g}% of a split cannot be taken.", "Choose a whole number from 1 to 100.")


def _is_folder(name: str) -> bool:
    """Tell whether a data set's name is a folder of files on this machine, which `datasets` reads in the same way."""
    return Path(name).is_absolute() and Path(name).is_dir()


def fetch(request: Mapping[str, Any], folder: Path, tell: Tell) -> str:
    """Write train.jsonl, and test.jsonl where the data set has a split for it; return how it was split, in words."""
    name, config, percent = request["hub_name"], request["config"] or None, int(request["percent"])
    tell("Asking for", 0, 0)
    _check_reachable(name)
    splits = _read_splits(name, config)
    train_split = _pick(name, request["split"], splits)
    test_split = _pick(name, request["test_split"], splits) if request["test_split"] else _guess(train_split, splits)
    for split, file_name in ((train_split, TRAIN), (test_split, TEST)):
        if split:
            tell(f"Downloading {split} of", 0, 0)
            _write(_load(name, config, split, percent), folder / file_name, tell)
    if not test_split:
        return ""
    return (
        f"{percent}% of the splits {train_split} (training) and {test_split} (test). "
        "The pipeline takes 20% of the training rows for validation."
    )


def _check_reachable(name: str) -> None:
    """Ask the hub once with a short time-out: its own client tries for 25 s before it says so."""
    import requests

    if _is_folder(name) or os.environ.get("HF_HUB_OFFLINE") == "1":
        return
    endpoint = os.environ.get("HF_ENDPOINT", _DEFAULT_ENDPOINT)
    try:
        requests.head(endpoint, timeout=5)
    except requests.RequestException as error:
        raise _unreachable(endpoint, error) from error


def _unreachable(endpoint: str, error: Exception) -> Unreachable:
    host = re.sub(r"^https?://", "", endpoint)
    return Unreachable(
        f"{host} cannot be reached from this machine.", "Upload a file, or use the bundled sample.", str(error)
    )


def _read_splits(name: str, config: str | None) -> list[str]:
    from datasets import get_dataset_split_names

    return _ask(name, lambda: [str(split) for split in get_dataset_split_names(name, config)])


def _load(name: str, config: str | None, split: str, percent: int) -> Any:
    from datasets import load_dataset

    return _ask(name, lambda: load_dataset(name, config, split=f"{split}[0%:{percent}%]"))


def _ask(name: str, question: Callable[[], Any]) -> Any:
    """Ask `datasets`, turning what it raises into sentences."""
    from datasets.exceptions import DatasetNotFoundError, DatasetsError

    try:
        return question()
    except DatasetNotFoundError as error:
        hint = "Check the name. A gated data set needs `hf auth login` first."
        raise NotFound(f"The data set '{name}' was not found on Hugging Face.", hint, str(error)) from error
    except ConnectionError as error:
        raise _unreachable(os.environ.get("HF_ENDPOINT", _DEFAULT_ENDPOINT), error) from error
    except (DatasetsError, ValueError, RuntimeError, OSError) as error:
        said = str(error).strip().splitlines()
        configs = re.search(r"available configs: (\[.*?\])", str(error))
        hint = f"Choose one of its configurations: {configs[1]}." if configs else "Check name and configuration."
        reason = said[0] if said else type(error).__name__
        raise BadInput(f"The data set '{name}' could not be read: {reason}", hint, str(error)) from error


def _pick(name: str, split: str, splits: list[str]) -> str:
    if split not in splits:
        raise BadInput(f"The data set '{name}' has no split '{split}'.", f"It has {', '.join(splits)}.")
    return split


def _guess(train_split: str, splits: list[str]) -> str | None:
    """Return the test split that goes with a training split: test_sft for train_sft."""
    wanted = train_split.replace("train", "test")
    return wanted if wanted != train_split and wanted in splits else None


def _write(rows: Any, path: Path, tell: Tell) -> None:
    columns = list(rows.column_names)
    if "messages" not in columns:
        raise BadInput(
            f"The data set has no column 'messages'. It has {', '.join(columns[:6])}.",
            "Choose a chat data set, such as HuggingFaceH4/ultrachat_200k.",
        )
    kept = [name for name in _KEPT_COLUMNS if name in columns]
    total = len(rows)
    with path.open("w", encoding="utf-8") as file:
        for done, row in enumerate(_iterate(rows.select_columns(kept)), start=1):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            tell("Fetched", done, total)


def _iterate(rows: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    for row in rows:
        messages = row.get("messages")
        if isinstance(messages, list):
            row["messages"] = [
                {key: value for key, value in message.items() if value is not None}
                if isinstance(message, dict)
                else message
                for message in messages
            ]
        yield row
