"""Where chat data comes from: the sample, a file, a path on the server, Hugging Face, a data asset, a repair."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from core.azureml import datastore
from core.azureml.connection import Connection
from core.dataset import files, server_files
from core.dataset.chat_dataset import ChatDataset, find_dataset
from core.dataset.files import TEST, TRAIN, Workplace
from core.dataset.hub import check_request
from core.dataset.preparation import Preparation, make_place, prepare_here, start_worker, wait
from core.dataset.repair import REPAIRABLE
from core.dataset.server_files import SUFFIX, check_name
from core.errors import BadInput

INLINE_BYTES = 2 * 1024 * 1024  # checked in the page's own process; about 0.1 s
MAX_BROWSER_BYTES = 200 * 1000 * 1000  # larger files come by path, hub or data asset
SAMPLE_NAME = "sample"
SAMPLE_SOURCE = "bundled sample"
_SAMPLE = Path(__file__).resolve().parent / "sample"


def load_sample() -> ChatDataset:
    """Return the bundled sample, copied to the home on first use."""
    found = find_dataset(files.hash_files(_SAMPLE / TRAIN, _SAMPLE / TEST))
    if found is not None:
        return found
    place = make_place({"kind": "upload", "name": SAMPLE_NAME, "source": SAMPLE_SOURCE})
    for name in (TRAIN, TEST):
        shutil.copyfile(_SAMPLE / name, place.path / name)
    return wait(prepare_here(place))


def start_upload(
    name: str,
    content: bytes | BinaryIO,
    test: bytes | BinaryIO | None = None,
    tokenizer: Path | None = None,
    mapping: Mapping[str, str] | None = None,
    test_percent: float | None = None,
    seed: int = 0,
    test_name: str = "",
) -> Preparation:
    """Take a file (and its test file) into the home; a small one is checked at once, a big one in a subprocess.

    tokenizer: the chosen model's folder, so that lengths are counted in its tokens. mapping: the operator's own, of
    shapes.PARTS to columns; without it the shape is recognised. test_percent and seed: how test rows are taken out
    where there is no test file; without them 10%.
    """
    name, test_name = check_name(name), check_name(test_name or name)
    request = _request("upload", name, f"uploaded file {name}", tokenizer, mapping, test_percent, seed)
    place = make_place(request | {"file_names": {TRAIN: name, TEST: test_name}})
    size = _spool(content, place.path / TRAIN) + (_spool(test, place.path / TEST) if test is not None else 0)
    return _start(place, size)


def start_path(
    path: str | Path,
    test: str | Path | None = None,
    tokenizer: Path | None = None,
    mapping: Mapping[str, str] | None = None,
    test_percent: float | None = None,
    seed: int = 0,
) -> Preparation:
    """Take a file of this machine into the home; where server_files allows it. The file is left alone."""
    given = {TRAIN: server_files.get_file(path)} | ({TEST: server_files.get_file(test)} if test else {})
    request = _request("path", given[TRAIN].name, f"file {given[TRAIN]}", tokenizer, mapping, test_percent, seed)
    request["paths"] = {name: str(found) for name, found in given.items()}
    request["file_names"] = {name: found.name for name, found in given.items()}
    return _start(make_place(request), sum(found.stat().st_size for found in given.values()))


def start_hub(
    name: str,
    config: str | None = None,
    split: str = "train",
    percent: float = 100,
    test_split: str | None = None,
    tokenizer: Path | None = None,
    mapping: Mapping[str, str] | None = None,
    rows: int | None = None,
    seed: int = 0,
) -> Preparation:
    """Fetch the first `percent`, or the first `rows`, of a Hugging Face data set's split in a subprocess.

    test_split None: guessed. Only what is taken is fetched, where the data set's files allow it.
    """
    name, config, split = name.strip(), (config or "").strip() or None, split.strip()
    check_request(name, config, (split, (test_split or "").strip()), percent, rows)
    part = f"[:{rows}]" if rows else f"[0%:{percent:g}%]"
    request = _request("hub", Path(name).name, f"Hugging Face: {name}, {split}{part}", tokenizer, mapping, None, seed)
    request |= {
        "hub_name": name,
        "config": config,
        "split": split,
        "test_split": (test_split or "").strip() or None,
        "percent": int(percent),
        "rows": rows,
    }
    return start_worker(make_place(request | {"name": Path(name).name}))


def start_asset(
    conn: Connection,
    name: str,
    version: str,
    tokenizer: Path | None = None,
    mapping: Mapping[str, str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Preparation:
    """Take a registered data asset of the workspace's default datastore into the home. Blocks while it is fetched.

    progress: hears (bytes done, bytes in all).
    """
    asset = conn.call("read", f"data asset '{name}'", lambda: conn.workspace.data.get(name, version))
    path = datastore.path_of(conn, str(asset.path))
    if path is None:
        hint = "Choose one whose file lies in the workspace's default datastore, or upload the file."
        raise BadInput(f"Data asset '{name}' version {version} lies in another datastore.", hint, str(asset.path))
    if str(asset.type) not in ("uri_file", "AssetTypes.URI_FILE"):
        raise BadInput(f"Data asset '{name}' is no single file.", "Choose a data asset of the type file.")
    file_name = check_name(path)
    request = _request("asset", file_name, f"data asset {name}:{version}", tokenizer, mapping, None, 0)
    place = make_place(request | {"name": name.removesuffix("-train"), "file_names": {TRAIN: file_name}})
    size = _fetch(conn, path, place.path / TRAIN, progress)
    return _start(place, size)


def start_repair(
    dataset: ChatDataset, codes: Collection[str] = REPAIRABLE, tokenizer: Path | None = None
) -> Preparation:
    """Make a repaired copy of a data set, under the same name: its next version. Test rows stay test rows."""
    request = _request("repair", dataset.name, f"repaired from {dataset.source}", tokenizer, None, None, 0)
    place = make_place(request | {"name": dataset.name, "of": dataset.key, "codes": sorted(codes)})
    return _start(place, sum(path.stat().st_size for path in (dataset.train_path, dataset.test_path) if path))


def from_upload(
    name: str, content: bytes | BinaryIO, test: bytes | BinaryIO | None = None, tokenizer: Path | None = None
) -> ChatDataset:
    """Like start_upload, waiting for its end."""
    return wait(start_upload(name, content, test, tokenizer))


def from_hub(
    name: str,
    config: str | None = None,
    split: str = "train",
    percent: float = 100,
    test_split: str | None = None,
    progress: Callable[[Preparation], None] | None = None,
    rows: int | None = None,
) -> ChatDataset:
    """Like start_hub, waiting for its end."""
    return wait(start_hub(name, config, split, percent, test_split, rows=rows), progress)


def _request(
    kind: str,
    name: str,
    source: str,
    tokenizer: Path | None,
    mapping: Mapping[str, str] | None,
    test_percent: float | None,
    seed: int,
) -> dict[str, Any]:
    if test_percent is not None and not 0 <= test_percent <= 90:
        raise BadInput(f"{test_percent:g}% of the rows cannot be kept for the test.", "Choose from 0 to 90.")
    return {
        "kind": kind,
        "name": SUFFIX.sub("", Path(name).name) or kind,
        "source": source,
        "tokenizer": str(tokenizer) if tokenizer else None,
        "mapping": dict(mapping) if mapping else None,
        "test_percent": test_percent,
        "seed": seed,
    }


def _start(place: Workplace, size: int) -> Preparation:
    return start_worker(place) if size > INLINE_BYTES else prepare_here(place)


def _fetch(conn: Connection, blob: str, path: Path, progress: Callable[[int, int], None] | None) -> int:
    download = conn.call("read", f"'{blob}'", conn.blobs().container.get_blob_client(blob).download_blob)
    total, part = int(download.size), path.with_suffix(".fetched")
    with part.open("wb") as file:
        for chunk in download.chunks():
            file.write(chunk)
            if progress:
                progress(file.tell(), total)
    part.replace(path)
    return total


def _spool(content: bytes | BinaryIO, path: Path) -> int:
    source = BytesIO(content) if isinstance(content, bytes) else content
    with path.open("wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)
        return file.tell()
