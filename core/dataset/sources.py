"""Where chat data comes from: the sample, a file, a path on the server, Hugging Face, a data asset, a repair."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from core.azureml.connection import Connection
from core.dataset import allowed_files, data_assets, hub, row_index, store
from core.dataset.allowed_files import SUFFIX, check_name
from core.dataset.chat_dataset import ChatDataset, find_dataset
from core.dataset.edits import Edit
from core.dataset.model.token_counts import find_usable
from core.dataset.preparation import Preparation, prepare_here, start_worker
from core.dataset.repair import REPAIRS
from core.dataset.store import TEST, TRAIN
from core.dataset.workplace import HubPart, Request, Workplace, link
from core.errors import BadInput, NotFound

INLINE_BYTES = 2 * 1024 * 1024  # checked in the page's own process; about 0.1 s
MAX_BROWSER_BYTES = 200 * 1000 * 1000  # larger files come by path, hub or data asset
SAMPLE_SOURCE = "bundled sample"
_SAMPLE = Path(__file__).resolve().parent / "sample"


def load_sample() -> ChatDataset:
    """Return the bundled sample, copied to the home on first use."""
    sample = find_dataset(store.hash_files(_SAMPLE / TRAIN, _SAMPLE / TEST))
    if sample is not None:
        return sample
    place = Workplace.create(Request("upload", "sample", SAMPLE_SOURCE))
    for name in (TRAIN, TEST):
        shutil.copyfile(_SAMPLE / name, place.path / name)
    return _prepare(place)


def start_upload(
    name: str,
    content: bytes | BinaryIO,
    test: bytes | BinaryIO | None = None,
    tokenizer: Path | None = None,
    test_percent: float | None = None,
    seed: int = 0,
    test_name: str = "",
) -> Preparation:
    """Start to check a file (and its test file); a small one is finished on return, a big one takes a subprocess.

    tokenizer: the chosen model's folder, to count lengths in its tokens. test_percent and seed: how test rows are
    chosen if there is no test file; None: 10%. What its rows look like is recognised: read_again takes a mapping.
    """
    name, test_name = check_name(name), check_name(test_name or name)
    place = Workplace.create(
        Request(
            "upload",
            _title(name, "upload"),
            f"uploaded file {name}",
            tokenizer,
            test_percent=_check_percent(test_percent),
            seed=seed,
            file_names={TRAIN: name, TEST: test_name},
        )
    )
    size = _spool(content, place.path / TRAIN) + (_spool(test, place.path / TEST) if test is not None else 0)
    return _start(place, size)


def start_path(
    path: str | Path,
    test: str | Path | None = None,
    tokenizer: Path | None = None,
    test_percent: float | None = None,
    seed: int = 0,
) -> Preparation:
    """Start to check a copy of a file of this machine, if allowed_files allows it; see start_upload."""
    given = {TRAIN: allowed_files.get_file(path)} | ({TEST: allowed_files.get_file(test)} if test else {})
    request = Request(
        "path",
        _title(given[TRAIN].name, "path"),
        f"file {given[TRAIN]}",
        tokenizer,
        test_percent=_check_percent(test_percent),
        seed=seed,
        file_names={name: file.name for name, file in given.items()},
        paths={name: str(file) for name, file in given.items()},
    )
    return _start(Workplace.create(request), sum(file.stat().st_size for file in given.values()))


def start_hub(
    name: str,
    config: str | None = None,
    split: str = "train",
    percent: float = 100,
    test_split: str | None = None,
    tokenizer: Path | None = None,
    rows: int | None = None,
) -> Preparation:
    """Start to fetch the first `percent`, or the first `rows`, of a Hugging Face data set's split in a subprocess.

    test_split None: guessed. Only these rows are downloaded, if the data set's files allow it.
    """
    config, test_split = ((text or "").strip() or None for text in (config, test_split))
    part = HubPart(name.strip(), config, split.strip(), test_split, percent, rows)
    hub.check(part)
    source = f"Hugging Face: {part.name}, {part.split}" + (f"[:{rows}]" if rows else f"[0%:{percent:g}%]")
    title = Path(part.name).name
    return start_worker(Workplace.create(Request("hub", title, source, tokenizer, hub=part)))


def start_asset(
    conn: Connection,
    name: str,
    version: str,
    tokenizer: Path | None = None,
) -> Preparation:
    """Fetch a data asset from the workspace's default datastore, then start to check it. Blocks while it is fetched."""
    blob = data_assets.get_blob(conn, name, version)
    file_name = check_name(blob)
    source, files = f"data asset {name}:{version}", {TRAIN: file_name}
    request = Request("asset", name.removesuffix("-train"), source, tokenizer, file_names=files)
    place = Workplace.create(request)
    return _start(place, data_assets.fetch(conn, blob, place.path / TRAIN))


def read_again(preparation_id: str, mapping: Mapping[str, str] | None = None, encoding: str = "") -> Preparation:
    """Start to read the files of an earlier preparation once more, with another mapping or in another encoding.

    mapping: of row_shapes.PARTS to columns. What is not named stays as it was. Raises NotFound where its files are not
    kept any more: they are for an hour.
    """
    earlier = Workplace.find(preparation_id)
    if earlier is None or not earlier.sources:
        raise NotFound("The file as it was given is not kept any more.", "Choose it again.")
    request = earlier.read_request()
    mapping, encoding = mapping or request.mapping, encoding or request.encoding
    place = Workplace.create(replace(request, mapping=mapping, encoding=encoding))
    for path in earlier.sources:
        link(path, place.path / path.name)
    place.write("note", earlier.read("note"))
    return _start(place, sum(path.stat().st_size for path in place.sources))


def start_repair(dataset: ChatDataset, codes: Collection[str] = REPAIRS, tokenizer: Path | None = None) -> Preparation:
    """Start to make a repaired copy of a data set under the same name. Test rows stay test rows."""
    source, wanted = f"repaired from {dataset.source}", tuple(sorted(codes))
    return _start_copy(dataset, Request("repair", dataset.name, source, tokenizer, of=dataset.key, codes=wanted))


def start_edited(dataset: ChatDataset, edits: Sequence[Edit], tokenizer: Path | None = None) -> Preparation:
    """Start to make the next version of a data set, with edits. Test rows stay test rows, and none are made."""
    source = f"edited from {dataset.source.removeprefix('edited from ')}"
    percent = 0.0 if dataset.usable else None  # of data with errors they are still to be split off
    request = Request("repair", dataset.name, source, tokenizer, None, percent, of=dataset.key, edits=tuple(edits))
    return _start_copy(dataset, request)


def _start_copy(dataset: ChatDataset, request: Request) -> Preparation:
    return _start(Workplace.create(request), sum(path.stat().st_size for path in dataset.files.values()))


def take_part(dataset: ChatDataset, rows: int, test_rows: int) -> ChatDataset:
    """Make a data set of some rows of another, evenly from all of it; at most 2 MB. Blocks for as long as a glance."""
    train = _pick_lines(dataset.train_path, rows)
    test = _pick_lines(dataset.test_path, test_rows) if dataset.test_path else None
    name, source = f"{dataset.name.removesuffix('-part')}-part", f"{rows:,} rows of {dataset.source}"
    place = Workplace.create(Request("upload", name, source, test_percent=0.0, of=dataset.key))
    _spool(train, place.path / TRAIN)
    if test:
        _spool(test, place.path / TEST)
    return _prepare(place)


def _pick_lines(path: Path, wanted: int) -> bytes:
    """Return `wanted` lines of a checked file that a run reads, evenly from all of it, so many as fit INLINE_BYTES."""
    rows = row_index.read(path)
    offsets = rows["offset"][find_usable(rows)]
    step, size, lines = max(1.0, len(offsets) / max(1, wanted)), 0, []
    with path.open("rb") as file:
        for number in range(min(wanted, len(offsets))):
            file.seek(int(offsets[int(number * step)]))
            line = file.readline().strip() + b"\n"
            size += len(line)
            if size > INLINE_BYTES:
                break
            lines.append(line)
    return b"".join(lines)


def _title(file_name: str, otherwise: str) -> str:
    """Return the name of a data set made from a file."""
    return SUFFIX.sub("", Path(file_name).name) or otherwise


def _check_percent(test_percent: float | None) -> float | None:
    if test_percent is not None and not 0 <= test_percent <= 90:
        raise BadInput(f"{test_percent:g}% of the rows cannot be kept for the test.", "Choose from 0 to 90.")
    return test_percent


def _prepare(place: Workplace) -> ChatDataset:
    """Return the data set of small data, prepared here and now; raises the error that ends it."""
    ended = prepare_here(place)
    if ended.dataset is None:
        raise ended.error or NotFound("The data could not be kept.", "Try again.")
    return ended.dataset


def _start(place: Workplace, size_bytes: int) -> Preparation:
    return start_worker(place) if size_bytes > INLINE_BYTES else prepare_here(place)


def _spool(content: bytes | BinaryIO, path: Path) -> int:
    """Write an upload to a file; returns its size in bytes."""
    source = BytesIO(content) if isinstance(content, bytes) else content
    with path.open("wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)
        return file.tell()
