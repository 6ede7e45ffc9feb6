"""Fetches a part of a Hugging Face data set as JSONL. `datasets` is large: only the worker's process fetches."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from core.dataset.allowed_files import show
from core.dataset.checks.line_check import to_line
from core.dataset.files.file_formats import without_nulls
from core.dataset.progress import Meter
from core.dataset.split import VALIDATION_NOTE
from core.dataset.store import TEST, TRAIN
from core.dataset.workplace import HubPart
from core.errors import BadInput, NotFound, Unreachable

# `datasets`, the hub's client and requests are imported where they are needed: 120 MB and 1.4 s in every page else.
_MOST_ROWS = 10**9
_CONNECT_S = 5
_SILENCE_S = 30
"""How long the hub may be silent, on a slow line or from a busy machine, before it counts as gone."""

T = TypeVar("T")


def check(part: HubPart) -> None:
    """Raise BadInput where a data set's name, configuration, splits or share cannot be one. Touches no file.

    Refuses names that `datasets` would take for a folder, an address or a file reader, and not look up on the hub.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(part.name)
    except HFValidationError as error:
        said = f"'{show(part.name)}' is not the name of a Hugging Face data set."
        raise BadInput(said, "Names look like HuggingFaceH4/ultrachat_200k. A file comes by upload or path.") from error
    if part.config and not re.fullmatch(r"[^\x00-\x1f\x7f/\\<>:|?*\ud800-\udfff]{1,200}", part.config):
        raise BadInput(f"'{show(part.config)}' is not a configuration's name.", "Leave it empty if there is only one.")
    for split in filter(None, (part.split, part.test_split)):
        if not re.fullmatch(r"\w[\w.-]{0,100}", split):
            hint = "Splits are called train_sft, test_sft, train, test …"
            raise BadInput(f"'{show(split)}' is not a split's name.", hint)
    if not 1 <= part.percent <= 100 or part.percent != int(part.percent):
        raise BadInput(f"{part.percent:g}% of a split cannot be taken.", "Choose a whole number from 1 to 100.")
    if part.rows is not None and not 1 <= part.rows <= _MOST_ROWS:
        raise BadInput(f"{part.rows} rows cannot be taken.", f"Choose a number from 1 to {_MOST_ROWS:,}.")


def fetch(part: HubPart, folder: Path, meter: Meter) -> str:
    """Write train.jsonl, and test.jsonl where the data set has a split for it; return how it was split, in words.

    The rows are streamed: only the parts of the data set's files that hold them are fetched.
    """
    meter.tell("Asking for")
    _check_reachable()
    _be_patient()
    if "/" not in part.name:
        part = replace(part, name=_find_owner(part.name))
    splits = _read_splits(part)
    train_split = _pick(part.name, part.split, splits)
    test_split = _pick(part.name, part.test_split, splits) if part.test_split else _guess(train_split, splits)
    wanted = [(train_split, TRAIN)] + ([(test_split, TEST)] if test_split else [])
    for split, file_name in wanted:
        meter.tell(f"Downloading {split} of")
        rows, total = _open(part, split)
        _write(part.name, rows, total, folder / file_name, meter)
    if not test_split:
        return ""
    share = f"The first {part.rows:,} rows" if part.rows else f"{part.percent:g}%"
    return f"{share} of the splits {train_split} (training) and {test_split} (test). {VALIDATION_NOTE}"


def _be_patient() -> None:
    """Make the hub's client wait for a slow answer, but give up soon if none comes. What the operator set stays.

    It takes its time-outs from the environment when it is imported: 10 s where there are none, and for some requests
    no end at all. `datasets` would ask 20 times again, each time for as long as the hub's client asks by itself.
    """
    for variable in ("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"):
        os.environ[variable] = os.environ.get(variable) or str(_SILENCE_S)
    import datasets.config
    from huggingface_hub.utils import httpx, set_client_factory
    from huggingface_hub.utils._http import default_client_factory

    def make_client() -> Any:
        client = default_client_factory()
        client.timeout = httpx.Timeout(_silence_s(), connect=_CONNECT_S)
        return client

    set_client_factory(make_client)
    datasets.config.STREAMING_OPEN_MAX_RETRIES = datasets.config.STREAMING_READ_MAX_RETRIES = 1


def _silence_s() -> float:
    return float(os.environ.get("HF_HUB_ETAG_TIMEOUT") or _SILENCE_S)


def _check_reachable() -> None:
    """Ask the hub once: its own client retries for 25 s before it reports that it cannot connect."""
    import requests
    from huggingface_hub.constants import ENDPOINT

    if os.environ.get("HF_HUB_OFFLINE") == "1":
        return
    try:
        requests.head(ENDPOINT, timeout=(_CONNECT_S, _silence_s()))
    except requests.ReadTimeout as error:
        raise _unreachable(f"did not answer within {_silence_s():g} s", error) from error
    except requests.RequestException as error:
        raise _unreachable("cannot be reached from this machine", error) from error


def _find_owner(name: str) -> str:
    """Return owner/name for a bare name, as the hub knows it: `datasets` would take "json" for a file reader."""
    from huggingface_hub import HfApi

    full_name = _ask(name, lambda: str(HfApi(token=_token()).dataset_info(name, timeout=_silence_s()).id))
    if "/" not in full_name:
        raise BadInput(f"The data set '{name}' has no owner on Hugging Face.", "Write it as owner/name.")
    return full_name


def _address(name: str) -> str:
    """Return the name in the form that `datasets` looks up on the hub only, and not in a folder first."""
    return f"hf://datasets/{name}"


def _unreachable(what: str, error: Exception) -> Unreachable:
    from huggingface_hub.constants import ENDPOINT

    host = re.sub(r"^https?://", "", ENDPOINT)
    return Unreachable(f"{host} {what}.", "Upload a file, or use the bundled sample.", str(error))


def _read_splits(part: HubPart) -> list[str]:
    from datasets import get_dataset_split_names

    names = _ask(part.name, lambda: get_dataset_split_names(_address(part.name), part.config, token=_token()))
    return [str(split) for split in names]


def _open(part: HubPart, split: str) -> tuple[Iterator[Any], int]:
    """Return a stream of the rows that are asked for, and how many they are (0: not known).

    A share of a split needs its number of rows; if the data set does not say it, the whole split is fetched.
    """
    from datasets import load_dataset

    def load(split: str, **options: Any) -> Any:
        return _ask(
            part.name, lambda: load_dataset(_address(part.name), part.config, split=split, token=_token(), **options)
        )

    rows = part.rows
    if not rows and part.percent < 100:
        rows = _count_rows(part, split)
        if rows is None:
            whole = load(f"{split}[0%:{part.percent:g}%]")
            return iter(whole), len(whole)
    stream = load(split, streaming=True)
    return iter(stream.take(rows) if rows else stream), rows or 0


def _count_rows(part: HubPart, split: str) -> int | None:
    """Return how many rows a share of a split has, as its card says."""
    from datasets import load_dataset_builder

    info = _ask(part.name, lambda: load_dataset_builder(_address(part.name), part.config, token=_token()).info)
    card = (info.splits or {}).get(split)
    return round(card.num_examples * part.percent / 100) if card and card.num_examples else None


def _token() -> str | None:
    return os.environ.get("HF_TOKEN") or None


def _ask(name: str, question: Callable[[], T]) -> T:
    """Ask `datasets`, and turn what it raises into sentences."""
    from datasets.exceptions import DatasetNotFoundError, DatasetsError
    from huggingface_hub.utils import httpx

    try:
        return question()
    except DatasetNotFoundError as error:
        raise _not_found(name, error) from error
    except (ConnectionError, httpx.RequestError) as error:
        raise _unreachable("cannot be reached from this machine", error) from error
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


def _write(name: str, rows: Iterator[Any], total: int, path: Path, meter: Meter) -> None:
    """Write rows as JSONL; the shape is recognised later, as that of a file is."""
    done = 0
    with path.open("wb") as file:
        while (row := _ask(name, lambda: next(rows, None))) is not None:
            file.write(to_line(without_nulls(row)) + b"\n")
            done += 1
            meter.tell("Fetched", done, total)
    if not done:
        raise BadInput(f"The data set '{name}' returned no rows.", "Check split and percentage.")
