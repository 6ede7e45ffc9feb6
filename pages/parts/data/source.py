"""Where the data comes from, and how far its check is; what each source asks for is in forms."""

from __future__ import annotations

import contextlib

import streamlit as st

from core import dataset as datasets
from core import home
from core.azureml.reader import Snapshot
from core.dataset import ChatDataset, Preview
from core.errors import BadInput
from core.launch.drafts import Draft
from pages.parts.data import edits
from pages.parts.data import findings as data_findings
from pages.parts.data import forms as data_forms
from pages.parts.kit import fields, reads, words
from pages.parts.kit.action import action
from pages.parts.kit.elements.file_field import let_go
from pages.parts.kit.links import link
from pages.parts.kit.live import live
from pages.parts.kit.notices import draw_empty, draw_error, ready
from pages.parts.kit.state import set_url_id, ui, url_id
from pages.parts.setup import choices

_SOURCES = {
    "Bundled sample": "sample",
    "Upload": "upload",
    "Path": "path",
    "Hugging Face": "hub",
    "Data asset": "asset",
    "Used before": "known",
}
_FORMS = {
    "upload": data_forms.draw_upload,
    "path": data_forms.draw_path,
    "hub": data_forms.draw_hub,
    "asset": data_forms.draw_asset,
}
_PREVIEWED = 3


def draw(draft: Draft) -> ChatDataset | None:
    """Draw the choice of a source and what it needs; returns the data set, or None while there is none to show."""
    field = fields.place("source", ui().view.setdefault("source", _first(draft)))
    options = fields.follow(field, "The source", _choose_source)
    st.segmented_control("Where the data comes from", list(_SOURCES), default=field.value, required=True, **options)
    source = _SOURCES[field.value]
    prepared = _draw_chosen(draft, source)
    if prepared is None:
        return None
    loaded = reads.keep_shown(f"{prepared} of {draft.model}:{draft.model_version}", load(prepared, draft))
    if not ready(loaded, "Reading the first 50 rows…", (90, 200), key="dataset"):
        return None
    return loaded.value.look_again()


def _choose_source(title: str) -> None:
    set_url_id("data", None)
    ui().view["source"] = title


def find_preparation() -> str | None:
    """Return the preparation that the data shown came from, None where it is kept data: that is not read again."""
    title = ui().view.get("source")
    return url_id("prep") if title and _SOURCES[title] == url_id("from") else None


def load(key: str, draft: Draft) -> Snapshot[ChatDataset]:
    """Return the data set with lengths counted by the tokenizer of the draft's model."""

    def count() -> ChatDataset:
        dataset = datasets.load_sample() if key == "sample" else datasets.find_dataset(key)
        if dataset is None:
            raise BadInput("This data is no longer on this machine.", "Choose another, or use the bundled sample.")
        return datasets.count_tokens_with(dataset, data_forms.find_tokenizer(draft))

    asked = (home.default_path(), key, draft.model, draft.model_version, _known_of(key))
    return reads.work("dataset", ":".join(map(str, asked)), count)


def _known_of(key: str) -> str:
    """Return which checks have left their results and when, so that what they found is read.

    The same content under another name overwrites what was said of it.
    """
    folder = datasets.load_sample().train_path.parent if key == "sample" else home.current().datasets / key
    files = sorted(path for path in folder.glob("*.json") if path.stem not in ("analysis", "set-aside"))
    with contextlib.suppress(FileNotFoundError):  # deleted at this moment: found gone when it is read
        return ",".join(f"{path.stem}@{path.stat().st_mtime_ns}" for path in files)
    return ""


def _first(draft: Draft) -> str:
    """Return the source shown first: that of a check under way, of the data of the link or chosen, or the sample."""
    if url_id("prep"):
        begun = url_id("from") or ""
        return next((title for title, source in _SOURCES.items() if source == begun), "Used before")
    if url_id("data"):
        return "Used before"
    if draft.dataset:
        dataset = datasets.find_dataset(draft.dataset)
        if dataset is not None and dataset.source != datasets.SAMPLE_SOURCE:
            return "Used before"
    return "Bundled sample"


def _draw_chosen(draft: Draft, source: str) -> str | None:
    """Draw what a source needs; returns the key of its data set, None while there is none."""
    if source == "sample":
        return "sample"
    if source == "known":
        return _draw_repair_or_known(draft)
    _FORMS[source](draft)
    running = url_id("prep") if url_id("from") == source else None
    if running is None:
        if source == "upload":
            draw_empty("Choose a file, or use the bundled sample.")
        return None
    return _draw_preparation(running)


def _draw_repair_or_known(draft: Draft) -> str | None:
    if url_id("from") == "repair" and (running := url_id("prep")):
        action("Choose other data", set_url_id, "prep", None, key="leave-repair", icon="close")
        return _draw_preparation(running)
    kept = datasets.list_datasets()
    if not kept:
        draw_empty("No data was used before on this machine.")
        return None
    keys = [dataset.key for dataset in kept]
    wanted = url_id("data") or draft.dataset
    if wanted not in keys and url_id("data"):
        st.text("The data of the link is not on this machine. Here is the newest.")
    by_key = {dataset.key: dataset for dataset in kept}
    picked = st.selectbox(
        "Data on this machine",
        keys,
        index=keys.index(wanted) if wanted in keys else 0,
        format_func=lambda key: (
            f"{by_key[key].name} · {words.plural(by_key[key].rows, 'row')} · {words.moment(by_key[key].created_at)}"
        ),
        key=f"known-{draft.id}",
    )
    set_url_id("data", picked)
    return str(picked) if picked else None


def _draw_preparation(preparation_id: str) -> str | None:
    """Draw how far the check is, and its first rows meanwhile; returns the key of its data set when it is done."""
    preparation = datasets.read_preparation(preparation_id)
    if not preparation.state.finished:
        live(lambda: _draw_progress(preparation_id), key="preparation", run_every=0.7)
        action("Cancel check", _cancel, preparation_id, key="cancel-check", icon="close")
        return None
    if preparation.error is not None:
        draw_error(preparation.error, key="preparation")
        return None
    if preparation.dataset is None:
        draw_empty("The check was cancelled. Nothing of it is kept.")
        return None
    return preparation.dataset.key


def _cancel(preparation_id: str) -> None:
    datasets.cancel_preparation(preparation_id)
    if url_id("from") == "upload":
        for name in data_forms.FILES:
            let_go(name)


def _draw_progress(preparation_id: str) -> object:
    preparation = datasets.read_preparation(preparation_id)
    if not preparation.state.finished:
        st.progress(preparation.fraction or 0.0, text=words.plain(preparation.words))
        seen = data_forms.look_ahead(preparation_id)
        if seen.has_value and seen.value is None:
            reads.end_work("preview", preparation_id)  # nothing has come yet: look again
        elif seen.value is not None:
            _draw_preview(seen.value)
    return preparation.state


def _draw_preview(preview: Preview) -> None:
    """Draw what the first rows look like before all of them are checked."""
    st.caption(words.plain(preview.shape.words))
    if preview.findings:
        st.text(f"In the first {len(preview.rows)} rows: {data_findings.describe(preview.findings)}")
    for row in preview.rows[:_PREVIEWED]:
        said = "\n".join(f"{one['role']}: {datasets.words_of(one)[:300]}" for one in row.messages) or row.text[:600]
        with st.container(border=True):
            st.caption(f"line {row.line}")
            st.text(words.visible(said))


def draw_use(draft: Draft, dataset: ChatDataset | None) -> None:
    """Draw the button that takes the data, always in view, and why it is off."""
    with st.bottom, st.container(horizontal=True, vertical_alignment="center"):
        action(
            "Use this data",
            _use,
            draft.id,
            dataset.key if dataset else "",
            key="use-data",
            type="primary",
            icon="arrow_forward",
            off=dataset.words if dataset else "There is no data to use yet.",
            then=link("launch"),
            shortcut=None if edits.is_open() else "Ctrl+Enter",  # which keeps the edit, too
        )
        if dataset and dataset.usable:
            st.caption(words.plain(f"{dataset.name} · {words.plural(dataset.rows, 'row')}"), width="content")
        if dataset:
            edits.remind(dataset)


def _use(draft_id: str, key: str) -> None:
    choices.save(draft_id, dataset=key)
