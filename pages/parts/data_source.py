"""Where the data comes from: the bundled sample, a file, Hugging Face, or what was used before."""

from __future__ import annotations

import streamlit as st

from core import dataset as datasets
from core import drafts, home
from core.dataset import ChatDataset, Preparation
from core.drafts import Draft
from core.errors import BadInput, TunedeckError
from core.reader import Snapshot
from pages.parts import reads, words
from pages.parts.action import action
from pages.parts.live import live
from pages.parts.notices import draw_empty, draw_error, ready
from pages.parts.state import set_url_id, url_id

_SOURCES = {"Bundled sample": "sample", "Upload": "upload", "Hugging Face": "hub", "Used before": "known"}


def draw(draft: Draft) -> ChatDataset | None:
    """Draw the choice of a source and what it needs; returns the data set, or None while there is none to show."""
    source = st.segmented_control(
        "Where the data comes from", list(_SOURCES), default=_first(draft), required=True, key="source"
    )  # fmt: skip
    prepared = _draw_chosen(draft, _SOURCES[str(source)])
    if prepared is None:
        return None
    loaded = load(prepared, draft)
    if not ready(loaded, "Reading the first 50 rows…", (90, 200), key="dataset"):
        return None
    return loaded.value


def load(key: str, draft: Draft) -> Snapshot[ChatDataset]:
    """Return the data set with lengths counted by the tokenizer of the draft's model."""

    def count() -> ChatDataset:
        found = datasets.load_sample() if key == "sample" else datasets.find_dataset(key)
        if found is None:
            raise BadInput("This data is no longer on this machine.", "Choose another, or use the bundled sample.")
        tokenizer = datasets.find_tokenizer(draft.model, draft.model_version) if draft.model else None
        return datasets.count_tokens_with(found, tokenizer)

    return reads.work("dataset", f"{home.default_path()}:{key}:{draft.model}:{draft.model_version}", count)


def _first(draft: Draft) -> str:
    """Return the source shown first: that of a check under way, of the data already chosen, or the sample."""
    if url_id("prep"):
        return "Hugging Face" if url_id("from") == "hub" else "Upload"
    if draft.dataset:
        found = datasets.find_dataset(draft.dataset)
        if found is not None and found.source != datasets.SAMPLE_SOURCE:
            return "Used before"
    return "Bundled sample"


def _draw_chosen(draft: Draft, source: str) -> str | None:
    """Draw what a source needs; returns the key of its data set, None while there is none."""
    if source == "sample":
        return "sample"
    if source == "known":
        return _draw_known(draft)
    if source == "upload":
        _draw_upload(draft)
    else:
        _draw_hub(draft)
    running = url_id("prep") if url_id("from") == source else None
    if running is None:
        if source == "upload":
            draw_empty("Choose a file, or use the bundled sample.")
        return None
    return _draw_preparation(running)


def _draw_known(draft: Draft) -> str | None:
    known = datasets.list_datasets()
    if not known:
        draw_empty("No data was used before on this machine.")
        return None
    keys = [found.key for found in known]
    by_key = {found.key: found for found in known}
    picked = st.selectbox(
        "Data on this machine", keys, index=keys.index(draft.dataset) if draft.dataset in keys else 0,
        format_func=lambda key: f"{by_key[key].name} · {words.plural(by_key[key].rows, 'row')}",
        key=f"known-{draft.id}",
    )  # fmt: skip
    return str(picked) if picked else None


def _draw_upload(draft: Draft) -> None:
    """Draw the two files. No fragment may stand round a file_uploader."""
    left, right = st.columns(2)
    with left:
        train = st.file_uploader("Training rows", type=["jsonl", "json", "parquet"], key="train-file")
    with right:
        test = st.file_uploader("Test rows, where you have them", type=["jsonl", "json", "parquet"], key="test-file")
    st.caption('One conversation a line: {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", …}]}')
    if train is None:
        return
    key = f"{train.file_id}:{test.file_id if test else ''}"
    tokenizer = datasets.find_tokenizer(draft.model, draft.model_version) if draft.model else None
    taken = reads.work("upload", key, lambda: datasets.start_upload(train.name, train, test, tokenizer))
    if taken.error:
        draw_error(taken.error, key="upload")
        set_url_id("prep", None)
    elif taken.value is not None:
        _remember(taken.value, "upload")
    else:
        st.caption("Taking the file…")


def _draw_hub(draft: Draft) -> None:
    with st.form("hub"):
        st.text_input("Data set", placeholder="HuggingFaceH4/ultrachat_200k", key="hub-name")
        with st.container(horizontal=True):
            st.text_input("Training split", value="train", key="hub-split")
            st.text_input("Test split, where there is one", value="", key="hub-test")
            st.text_input("Configuration, where it has several", value="", key="hub-config")
        st.slider("Percentage of the split", 1, 100, 5, key="hub-percent", format="%d%%")
        action("Fetch and check", _fetch, draft, key="fetch-hub", icon="download", in_form=True)


def _fetch(draft: Draft) -> None:
    given = {name: str(st.session_state[f"hub-{name}"]).strip() for name in ("name", "split", "test", "config")}
    if not given["name"]:
        raise BadInput("The name of the data set is missing.", "It looks like HuggingFaceH4/ultrachat_200k.")
    tokenizer = datasets.find_tokenizer(draft.model, draft.model_version) if draft.model else None
    _remember(
        datasets.start_hub(
            given["name"], given["config"] or None, given["split"] or "train", float(st.session_state["hub-percent"]),
            given["test"] or None, tokenizer,
        ),
        "hub",
    )  # fmt: skip


def _remember(preparation: Preparation, source: str) -> None:
    """Keep the check in the URL, so that a reload finds it."""
    set_url_id("prep", preparation.id)
    set_url_id("from", source)


def _draw_preparation(preparation_id: str) -> str | None:
    """Draw how far the check is; returns the key of its data set when it is done."""
    found = datasets.read_preparation(preparation_id)
    if found.state == "running":
        live(lambda: _draw_progress(preparation_id), key="preparation", run_every=0.7)
        action("Cancel check", datasets.cancel_preparation, preparation_id, key="cancel-check", icon="close")
        return None
    if found.state == "failed":
        draw_error(TunedeckError(found.message, found.hint, found.detail), key="preparation")
        return None
    if found.state == "cancelled" or found.dataset is None:
        draw_empty("The check was cancelled. Nothing of it is kept.")
        return None
    return found.dataset.key


def _draw_progress(preparation_id: str) -> object:
    found = datasets.read_preparation(preparation_id)
    st.progress(found.fraction or 0.0, text=words.plain(found.words))
    return found.state


def use(draft_id: str, key: str) -> None:
    """Save the data set in the draft."""
    drafts.save_draft(drafts.get_draft(draft_id), dataset=key)
