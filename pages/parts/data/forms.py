"""What each source of data asks for: a file, a path on the server, a data set of the hub, a data asset."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from core import dataset as datasets
from core.azureml.reader import Snapshot
from core.dataset import Preparation, Preview
from core.errors import BadInput, NotFound
from core.launch.drafts import Draft
from pages.parts.kit import reads, words
from pages.parts.kit.action import action
from pages.parts.kit.elements.file_field import MOST_MB, draw_file
from pages.parts.kit.notices import draw_empty, draw_error, ready
from pages.parts.kit.state import set_url_id, ui, url_id

_TYPES = ["jsonl", "json", "csv", "tsv", "parquet", "gz", "zst"]
FILES = ("train-file", "test-file")


@dataclass(frozen=True)
class Split:
    """How test rows are chosen where no test file is given. percent None: as the product does it by itself."""

    percent: float | None = None
    seed: int = 0


def remember(preparation: Preparation, source: str) -> None:
    """Keep the check in the URL, so that a reload finds it, and have its first rows read by the time they are drawn."""
    set_url_id("prep", preparation.id)
    set_url_id("from", source)
    if not preparation.state.finished:
        look_ahead(preparation.id)


def remember_copy(preparation: Preparation) -> None:
    """Keep the check of a copy, and show its rows from the first: the one that was open may not be in it."""
    remember(preparation, "repair")
    ui().view["source"] = "Used before"
    ui().view.pop("rows", None)
    set_url_id("row", None)


def remember_again(earlier_id: str, preparation: Preparation) -> None:
    """Keep a check of files that were read before in its place."""
    ui().notes.setdefault("read-again", {})[earlier_id] = preparation
    remember(preparation, url_id("from") or "upload")


def _newest(preparation: Preparation) -> Preparation:
    """Return the check of the same files that was begun last."""
    while (later := ui().notes.get("read-again", {}).get(preparation.id)) is not None:
        preparation = later
    return preparation


def look_ahead(preparation_id: str) -> Snapshot[Preview | None]:
    """Return the first rows of data on its way, read off the page; None where none has come yet."""
    return reads.run_once("preview", preparation_id, lambda: datasets.read_preview(preparation_id))


def draw_upload(draft: Draft) -> None:
    """Draw the two files. No fragment may stand round a file_uploader."""
    left, right = st.columns(2)
    with left:
        train = draw_file("Training rows", FILES[0], _TYPES)
    with right:
        test = draw_file("Test rows, where you have them", FILES[1], _TYPES)
    st.caption(
        f"JSONL, JSON, CSV, TSV or Parquet, also packed as .gz or .zst, up to {MOST_MB} MB. Larger files come by path, "
        "Hugging Face or data asset."
    )
    split = Split() if test else draw_split("upload")
    if train is None:
        return
    tokenizer = find_tokenizer(draft)
    key = f"{train.id}:{test.id if test else ''}:{split}"

    def take() -> Preparation:
        with train.path.open("rb") as rows, test.path.open("rb") if test else nullcontext() as test_rows:
            return datasets.start_upload(
                train.name, rows, test_rows, tokenizer, split.percent, split.seed, test.name if test else ""
            )

    taken = reads.work("upload", key, take)
    if taken.error:
        draw_error(taken.error, key="upload")
        set_url_id("prep", None)
    elif taken.value is not None:
        remember(_newest(taken.value), "upload")
    else:
        st.caption("Taking the file…")


def draw_path(draft: Draft) -> None:
    """Draw the files of the folders that may be read."""
    folders = datasets.list_folders()
    key = f"{folders}:{ui().notes.get('files-seen', 0)}"
    listed = reads.keep_shown("data-files", reads.work("data-files", key, datasets.list_files))
    if not ready(listed, "Looking for files…", (56,), key="data-files"):
        return
    st.caption(words.plain(f"Folders that may be read: {', '.join(map(str, folders))}."))
    action("Look again", _look_again, key="files-again", icon="refresh")
    if not listed.value:
        draw_empty("No data file lies there. TUNEDECK_DATA_FOLDERS names other folders.")
        return
    files = {str(path): path for path in listed.value}
    st.selectbox("Training rows", list(files), key="path-train", filter_mode="contains")
    test = st.selectbox("Test rows, where you have them", ["", *files], key="path-test", format_func=_or_none)
    if not test:
        draw_split("path")
    action("Read and check", _take_path, draft, key="take-path", icon="folder_open")


def _look_again() -> None:
    ui().notes["files-seen"] = ui().notes.get("files-seen", 0) + 1


def _or_none(path: str) -> str:
    return path or "None"


def _take_path(draft: Draft) -> None:
    """Begin with what the fields hold at the click, which the page may not have drawn yet."""
    train, test = str(st.session_state["path-train"]), st.session_state["path-test"] or None
    percent, seed = (st.session_state.get(f"split-{each}-path") for each in ("percent", "seed"))
    split = Split() if test or percent is None else Split(float(percent), int(seed or 0))
    remember(datasets.start_path(train, test, find_tokenizer(draft), split.percent, split.seed), "path")


def draw_hub(draft: Draft) -> None:
    """Draw the name of a data set and which part of it is wanted."""
    with st.form("hub"):
        st.text_input("Data set", placeholder="HuggingFaceH4/ultrachat_200k", key="hub-name")
        with st.container(horizontal=True):
            st.text_input("Training split", value="train", key="hub-split")
            st.text_input("Test split, where there is one", value="", key="hub-test")
            st.text_input("Configuration, where it has several", value="", key="hub-config")
        with st.container(horizontal=True, vertical_alignment="bottom"):
            st.slider("Percentage of the split", 1, 100, 5, key="hub-percent", format="%d%%")
            st.number_input("Or so many rows", min_value=1, value=None, step=100, key="hub-rows")
        action("Fetch and check", _fetch, draft, key="fetch-hub", icon="download", in_form=True)
    st.caption("Only the part you ask for is fetched. A token for private data comes from HF_TOKEN in the environment.")


def _fetch(draft: Draft) -> None:
    given = {name: str(st.session_state[f"hub-{name}"]).strip() for name in ("name", "split", "test", "config")}
    if not given["name"]:
        raise BadInput("The name of the data set is missing.", "It looks like HuggingFaceH4/ultrachat_200k.")
    rows = int(st.session_state["hub-rows"] or 0) or None
    remember(
        datasets.start_hub(
            given["name"],
            given["config"] or None,
            given["split"] or "train",
            float(st.session_state["hub-percent"]),
            given["test"] or None,
            find_tokenizer(draft),
            rows=rows,
        ),
        "hub",
    )


def draw_asset(draft: Draft) -> None:
    """Draw the workspace's data assets."""
    listed = reads.read(datasets.list_assets, max_age_s=30.0)
    if not ready(listed, "Reading the workspace's data assets…", (56, 56), key="assets"):
        return
    if not listed.value:
        draw_empty("This workspace has no data asset yet. A run registers the data that it is trained on.")
        return
    assets = {f"{asset.name}:{asset.version}": asset for asset in listed.value}
    picked = st.selectbox(
        "Data asset", list(assets), key="asset", format_func=lambda key: assets[key].words, filter_mode="contains"
    )
    asked = str(picked)
    fetching = reads.find_work("asset", f"{draft.connection}:{asked}")
    if fetching is not None and fetching.loading:
        reads.watch(f"asset:{asked}", lambda: reads.find_work("asset", f"{draft.connection}:{asked}") or reads.LOADING)
        st.caption("Fetching it from the datastore…")
    elif fetching is not None and fetching.error:
        draw_error(fetching.error, key="asset")
    elif fetching is not None and fetching.value is not None:
        remember(fetching.value, "asset")
        reads.end_work("asset", f"{draft.connection}:{asked}")
    action("Fetch and check", _take_asset, draft, key="take-asset", icon="download")


def _take_asset(draft: Draft) -> None:
    asked = str(st.session_state["asset"])
    conn = reads.find_connection()
    if conn is None:
        raise NotFound("No workspace is chosen.", "Choose one on the page Connect.")
    name, _, version = asked.rpartition(":")
    tokenizer = find_tokenizer(draft)
    key = f"{draft.connection}:{asked}"
    reads.end_work("asset", key)
    set_url_id("prep", None)
    reads.run_once("asset", key, lambda: datasets.start_asset(conn, name, version, tokenizer))


def draw_split(source: str) -> Split:
    """Draw how test rows are chosen where no test file is given."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        percent = st.number_input("Test rows, %", 0, 90, 10, 5, key=f"split-percent-{source}")
        seed = st.number_input("Seed", 0, 2**31 - 1, 0, 1, key=f"split-seed-{source}")
    st.caption(
        "Rows that say the same stay on one side. A run without test rows (0%) is split 80/10/10 by the service."
    )
    return Split(float(percent), int(seed))


def find_tokenizer(draft: Draft) -> Path | None:
    """Return the tokenizer of the draft's model, None where there is no model or it is not on this machine."""
    return datasets.find_tokenizer(draft.model, draft.model_version) if draft.model else None
