"""Fetches a part of a Hugging Face data set as JSONL. Runs in the worker's process only: `datasets` is large."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from core.dataset.files import TEST, TRAIN
from core.dataset.rows import to_line
from core.errors import BadInput, NotFound, Unreachable

_DEFAULT_ENDPOINT = "https://huggingface.co"

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
    """Write train.jsonl, and test.jsonl where the data set has a split for it; return how it was split, in words.

    The rows are streamed: only the parts of the data set's files that hold them are fetched.
    """
    name, config = request["hub_name"], request["config"] or None
    tell("Asking for", 0, 0)
    _check_reachable(name)
    splits = _read_splits(name, config)
    train_split = _pick(name, request["split"], splits)
    test_split = _pick(name, request["test_split"], splits) if request["test_split"] else _guess(train_split, splits)
    wanted = [(train_split, TRAIN)] + ([(test_split, TEST)] if test_split else [])
    for split, file_name in wanted:
        tell(f"Downloading {split} of", 0, 0)
        rows, total = _open(name, config, split, int(request["percent"]), request.get("rows"))
        _write(name, rows, total, folder / file_name, tell)
    if not test_split:
        return ""
    part = f"The first {request['rows']:,} rows" if request.get("rows") else f"{int(request['percent'])}%"
    return (
        f"{part} of the splits {train_split} (training) and {test_split} (test). "
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

    return _ask(name, lambda: [str(split) for split in get_dataset_split_names(name, config, token=_token())])


def _open(name: str, config: str | None, split: str, percent: int, rows: int | None) -> tuple[Iterator[Any], int]:
    """Return a stream of the rows that are asked for, and how many they are (0: not known).

    A share of a split needs its number of rows; where the data set does not tell it, the whole split is fetched.
    """
    from datasets import load_dataset

    if not rows and percent < 100:
        rows = _count_rows(name, config, split, percent)
        if rows is None:
            whole = _ask(name, lambda: load_dataset(name, config, split=f"{split}[0%:{percent}%]", token=_token()))
            return iter(whole), len(whole)
    stream = _ask(name, lambda: load_dataset(name, config, split=split, streaming=True, token=_token()))
    return iter(stream.take(rows) if rows else stream), rows or 0


def _count_rows(name: str, config: str | None, split: str, percent: int) -> int | None:
    """Return how many rows a share of a split has, as the data set's own card tells."""
    from datasets import load_dataset_builder

    info = _ask(name, lambda: load_dataset_builder(name, config, token=_token()).info)
    known = (info.splits or {}).get(split)
    return round(known.num_examples * percent / 100) if known and known.num_examples else None


def _token() -> str | None:
    return os.environ.get("HF_TOKEN") or None


def _ask(name: str, question: Callable[[], Any]) -> Any:
    """Ask `datasets`, turning what it raises into sentences."""
    from datasets.exceptions import DatasetNotFoundError, DatasetsError

    try:
        return question()
    except DatasetNotFoundError as error:
        raise _not_found(name, error) from error
    except ConnectionError as error:
        raise _unreachable(os.environ.get("HF_ENDPOINT", _DEFAULT_ENDPOINT), error) from error
    except (DatasetsError, ValueError, RuntimeError, OSError) as error:
        if getattr(getattr(error, "response", None), "status_code", 0) in (401, 403, 404):
            raise _not_found(name, error) from error
        said = str(error).strip().splitlines()
        configs = re.search(r"available configs: (\[.*?\])", str(error))
        hint = f"Choose one of its configurations: {configs[1]}." if configs else "Check name and configuration."
        reason = said[0] if said else type(error).__name__
        raise BadInput(f"The data set '{name}' could not be read: {reason}", hint, str(error)) from error


def _not_found(name: str, error: Exception) -> NotFound:
    hint = "Check the name. A private or gated data set needs a token in HF_TOKEN, or `hf auth login`."
    return NotFound(f"The data set '{name}' was not found on Hugging Face.", hint, str(error))


def _pick(name: str, split: str, splits: list[str]) -> str:
    if split not in splits:
        raise BadInput(f"The data set '{name}' has no split '{split}'.", f"It has {', '.join(splits)}.")
    return split


def _guess(train_split: str, splits: list[str]) -> str | None:
    """Return the test split that goes with a training split: test_sft for train_sft."""
    wanted = train_split.replace("train", "test")
    return wanted if wanted != train_split and wanted in splits else None


def _write(name: str, rows: Iterator[Any], total: int, path: Path, tell: Tell) -> None:
    """Write rows as JSONL; the shape is recognised later, as that of a file is."""
    done = 0
    with path.open("wb") as file:
        while (row := _ask(name, lambda: next(rows, None))) is not None:
            file.write(to_line(_without_nulls(row)) + b"\n")
            done += 1
            tell("Fetched", done, total)
    if not done:
        raise BadInput(f"The data set '{name}' gave no rows.", "Check split and percentage.")


def _without_nulls(row: dict[str, Any]) -> dict[str, Any]:
    messages = row.get("messages")
    if isinstance(messages, list):
        row["messages"] = [
            {key: value for key, value in message.items() if value is not None}
            if isinstance(message, dict)
            else message
            for message in messages
        ]
    return row
