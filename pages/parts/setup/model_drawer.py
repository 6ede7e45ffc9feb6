"""Adding a base model to the local workspace, and removing one that was added: the drawer, and how far it is."""

from __future__ import annotations

from functools import partial

import streamlit as st

from core import operations, overview
from core.azureml.connection import Connection
from core.azureml.reader import Snapshot
from core.catalog import additions, base_models
from core.catalog.base_models import BaseModel
from core.engine.model_look import Look
from core.errors import BadInput
from core.launch.drafts import Draft
from core.operations import Operation
from core.operations.add_model import RemoveModel
from pages.parts.kit import reads, words
from pages.parts.kit.action import Confirm, action, close_dialog, drawer, open_dialog
from pages.parts.kit.live import live
from pages.parts.kit.notices import draw_error, draw_hint, draw_loading, draw_warning
from pages.parts.kit.state import ui
from pages.parts.kit.steps import draw_operation_error
from pages.parts.setup import choices
from pages.parts.setup.model_finder import pick

_KEY, _WORK = "add-model", "look-at-model"
_ICONS = {"ok": ":green[:material/check_circle:]", "warning": ":orange[:material/warning:]"}
_FAILED = ":red[:material/error:]"
_WORDS = {"failed": " · failed", "warning": " · note"}


def leave_removed(draft: Draft) -> Draft:
    """Return the draft without its model where that was removed by this session. Call it before models are drawn."""
    last = operations.find_operation(str(ui().notes.get("adding", "")))
    gone = last.change if last and last.finished and not last.error else None
    if isinstance(gone, RemoveModel) and (gone.subject, gone.version) == (draft.model, draft.model_version):
        reads.forget(base_models.get_base_model)
        return choices.save(draft.id, model="", model_version="")
    return draft


def draw(draft: Draft, model: BaseModel | None) -> None:
    """Draw the buttons, the drawer while it is open, and how far the last addition is; nothing on Azure."""
    place = reads.find_connection(draft.connection)
    if place is None or not place.cloud.is_local:
        return
    if not additions.can_train():
        said = "PyTorch is not installed here, so nothing can be trained or served on this machine."
        draw_warning(
            said, "Run make run in Tunedeck's folder, or pip install torch, and start it again.", key="no-torch"
        )
    with st.container(horizontal=True):
        latest = _latest(draft)
        if not (additions.has_models(place) or (latest and not latest.finished)):
            label = f"Fetch {additions.BUNDLED} ({words.size(additions.BUNDLED_BYTES)})"
            off = "" if additions.can_train() else "It takes PyTorch."
            action(label, _fetch_bundled, key="fetch-bundled", type="primary", icon="download", off=off)
        action("Add a model", open_dialog, _KEY, key="open-add-model", icon="add")
        if model is not None and additions.was_added(model):
            _draw_removal(draft, model)
    drawer(_KEY, "Add a model", partial(_draw_form, place), icon="add", wide=True)
    if operation := latest:
        every_s = None if operation.finished else 1.0
        live(lambda: _draw_progress(operation.id, draft.id), key="adding", run_every=every_s)


def _latest(draft: Draft) -> Operation | None:
    """Return the addition or removal that goes on, else the one that this session asked for last."""
    active = operations.list_operations(draft.connection, active=True)
    going = next((each for each in active if each.kind == "add_model"), None)
    return going or operations.find_operation(str(ui().notes.get("adding", "")))


def _draw_form(place: Connection) -> None:
    st.text_input(
        "Model",
        key="add-model-source",
        placeholder="Qwen/Qwen3-0.6B or /models/mine",
        help="The id of a model on the Hugging Face hub, or the whole path of a folder of this machine.",
        autocomplete="off",
    )
    st.text_input("Revision", key="add-model-revision", placeholder="the newest", autocomplete="off")
    st.caption("For a private or gated model, start Tunedeck with a token in HF_TOKEN; it is kept nowhere.")
    action("Look at it", _ask, key="look-at-model", icon="search", width="stretch")
    if asked := ui().notes.get(_WORK):
        waits = _look(place, *asked).loading
        live(lambda: _draw_found(place, *asked), key="look", run_every=0.8 if waits else None)


def _look(place: Connection, source: str, revision: str) -> Snapshot[Look]:
    look = partial(additions.look_at, place, source, revision)
    return reads.run_once(_WORK, f"{source}@{revision}", look, apart=True)


def _draw_found(place: Connection, source: str, revision: str) -> object:
    """Draw how a look stands; what it returns differs once it has ended, and once the drawer was closed."""
    found = _look(place, source, revision)
    if found.error is not None:
        draw_error(found.error, key="look")
    elif found.value is None:
        draw_loading(f"Looking at {words.plain(source)}: its weights are not fetched yet…", (28,) * 4)
    else:
        _draw_look(source, found.value)
    return found.loading, ui().open_dialog


def _ask() -> None:
    """Have what is typed looked at, also where it was before."""
    source, revision = (str(st.session_state.get(f"add-model-{name}") or "").strip() for name in ("source", "revision"))
    if not source:
        raise BadInput("No model is named.", "Give an id of the hub, or the path of a folder.")
    reads.end_work(_WORK, f"{source}@{revision}")
    ui().notes[_WORK] = (source, revision)


def _draw_look(source: str, look: Look) -> None:
    """Draw the answers, one a line, and the button that takes the model."""
    with st.container(gap="xsmall", key="model-lines"):
        at = f" at {look.revision[:8]}" if look.revision else ""
        st.markdown(f"**{words.plain(look.title)}**{words.plain(at)}")
        for line in look.lines:
            state = f"{_ICONS.get(line.state, _FAILED)} **{line.name}**{_WORDS.get(line.state, '')}"
            st.markdown(f"{state}: {words.plain(line.said)}")
            if line.hint:
                draw_hint(line.hint, small=True)
    size = words.size(look.size_bytes)
    off = "What is marked red stands against it." if look.refused else ""
    action(
        f"Add {words.plain(look.name)}, {size}",
        _add,
        look,
        source,
        key="add-model-now",
        type="primary",
        icon="download",
        off=off,
        width="stretch",
    )


def _fetch_bundled() -> None:
    operation = operations.start_add_model(ui().alias or "", additions.BUNDLED, additions.BUNDLED)
    ui().notes["adding"] = operation.id


def _add(look: Look, source: str) -> None:
    operation = operations.start_add_model(ui().alias or "", look.title, source, look.revision)
    ui().notes["adding"] = operation.id
    ui().notes.pop(_WORK, None)
    close_dialog()


def _draw_progress(operation_id: str, draft_id: str) -> object:
    found = operations.find_operation(operation_id)
    if found is None or not found.steps:
        return None
    step, model = found.steps[0], str(found.facts.get("model") or "")
    with st.container(border=True, key="model-addition"):
        if not found.finished:
            said = f"{words.plain(found.title)}: {words.plain(step.detail or 'waits')}"
            st.progress(min(1.0, float(found.facts.get("share") or 0.0)), text=said)
            if found.kind == "add_model" and not found.cancel_wanted:
                action("Cancel", operations.Ledger().want_cancel, found.id, key="cancel-adding", icon="close")
        elif found.error:
            st.text(found.title)
            draw_operation_error(found, key="adding")
            action("Try again", operations.retry_operation, found.id, key="retry-adding", icon="refresh")
        else:
            st.text(f"{found.title}: {step.detail}")
            if model and choices.get_shown(draft_id).model != model:
                versions = {model: str(found.facts["version"])}
                action("Choose it", pick, model, draft_id, versions, key="choose-added", icon="check")
    return found.state, choices.get_shown(draft_id).model


def _draw_removal(draft: Draft, model: BaseModel) -> None:
    runs = reads.read(overview.read_runs, max_age_s=10.0).value or ()
    mine = [run for run in runs if (run.model, run.model_version) == (model.name, model.version)]
    count = words.plural(len(mine), "run")
    used = (
        f"{count} of it {'stays' if len(mine) == 1 else 'stay'}, with the tuned models." if mine else "No run used it."
    )
    lines = [f"The files of {model.name}, version {model.version}, are deleted from this machine.", used]
    if mine:
        lines.append("Without it they cannot be evaluated or started again, nor a checkpoint of them deployed.")
    action(
        "Remove this model…",
        _remove,
        draft.connection,
        model,
        key="remove-model",
        icon="delete",
        confirm=Confirm(
            f"Remove {words.plain(model.name)}?", "Remove it", "Keep it", tuple(lines), icon="delete_forever"
        ),
    )


def _remove(alias: str, model: BaseModel) -> None:
    ui().notes["adding"] = operations.start_remove_model(alias, model.name, model.version).id
