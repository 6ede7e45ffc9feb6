"""Launch a run like an earlier one: by its row, by its page, or like the last run where nothing else was begun."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import streamlit as st

from core import dataset as datasets
from core import operations, overview
from core.azureml import tags
from core.catalog import base_models
from core.catalog.compute import get_compute
from core.errors import NotFound, TunedeckError
from core.launch import drafts
from core.launch.drafts import Draft
from core.recipe import BY_NAME, Recipe, say_value
from core.runs.states import Run
from pages.parts.kit import reads, words
from pages.parts.kit.action import action
from pages.parts.kit.guard import end_page
from pages.parts.kit.links import Link, link
from pages.parts.kit.notices import draw_error, draw_loading
from pages.parts.kit.state import set_url_id, ui, url_id
from pages.parts.setup import choices

_NAMED = 4  # of what differs, on the line that is always seen


def link_again(run: str) -> Link:
    """Return the link to Launch with the set-up of a run."""
    return link("launch", again=run, draft=None)


def draw_or_get_setup() -> Draft:
    """Return the draft that Launch shows: as the run of ?again=, that of the address, else the next one.

    The next one is what was changed last or, where a run was begun since, a set-up like that run's.
    """
    here = ui()
    if here.alias and (wanted := url_id("again")):
        made = _set_up_as(wanted)
        set_url_id("again", None)
        return choices.take(made)
    if here.alias and not here.draft_id and (last := _find_last()) is not None:
        draft = drafts.find_latest_draft(here.alias)
        changed = tags.parse_time(draft.updated_at) if draft else None
        if changed is None or (last.created_at and last.created_at > changed):
            choices.take(_set_up_as(last.name))
    return choices.draw_or_get_draft()


def offer_last() -> None:
    """Offer the set-up of the last run, where there is one."""
    if (last := _find_last()) is not None:
        link_again(last.name).draw(f"Set up as {words.plain(last.title)}", icon="replay")


def draw_origin(draft: Draft) -> None:
    """Draw which run a set-up was taken from; nothing where it was begun from scratch."""
    if not draft.again:
        return
    run = reads.read(overview.read_run, draft.again).value
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        st.text(f"Set up as {_name(run, draft)}. Nothing is started.", width="stretch")
        action(
            "Start from scratch",
            drafts.create_draft,
            draft.connection,
            key="scratch",
            icon="restart_alt",
            then=lambda made: link("model", draft=made.id),
        )


def find_missing(draft: Draft, error: TunedeckError | None) -> Sequence[tuple[str, str, str]]:
    """Return what a set-up names that is no longer there: a sentence, the page to choose anew on, its link's words.

    error: of reading what the set-up stands on; only where something was not found each is asked for.
    """
    if not isinstance(error, NotFound):
        return ()
    run = reads.read(overview.read_run, draft.again).value if draft.again else None
    data = f"The data '{run.dataset}'" if run else "The data of this set-up"
    found = []
    if datasets.find_dataset(draft.dataset) is None:
        found.append((f"{data} is not on this machine.", "data", "Choose data"))
    model = f"{draft.model} version {draft.model_version}" if draft.model_version else draft.model
    if _is_gone(base_models.get_base_model, draft.model, draft.model_version or "latest"):
        found.append((f"The model {model} is no longer there.", "model", "Choose a model"))
    if _is_gone(get_compute, draft.compute):
        found.append((f"The compute '{draft.compute}' is no longer there.", "model", "Choose a compute"))
    return found


def _is_gone(read: Callable[..., Any], *args: str) -> bool:
    return isinstance(reads.read(read, *args, max_age_s=10.0).error, NotFound)


def _set_up_as(name: str) -> Draft:
    """Return a new draft like a run; draws that the run is being read, or cannot be, and ends the page."""
    snapshot = reads.read(overview.read_run, name)
    if snapshot.value is None:
        if snapshot.error is not None:
            draw_error(snapshot.error, key="again")
            link("runs").draw("See all runs", icon="arrow_back")
        else:
            draw_loading("Reading the run…")
        end_page()
    return operations.copy_setup(snapshot.value, ui().alias or "")


def _find_last() -> Run | None:
    """Return the run that was begun last in this workspace; draws that they are being read, and ends the page."""
    snapshot = reads.read(overview.read_runs, max_age_s=5.0)
    if snapshot.loading and not snapshot.has_value:
        draw_loading("Reading the last run…")
        end_page()
    begun = [run for run in snapshot.value or () if run.created_at and run.model]
    return max(begun, key=lambda run: run.created_at or datetime.min, default=None)


def _name(run: Run | None, draft: Draft) -> str:
    """Return "brave-otter of 22 Nov 15:02 UTC", with who began it where that was not this machine."""
    if run is None:
        return draft.again
    by = f" by {run.owner}" if run.owner and not tags.is_ours(run.tags) else ""
    return f"{run.title} of {words.moment(run.created_at)}{by}"


def draw_changes(draft: Draft, recipe: Recipe) -> None:
    """Draw what differs from the run that a set-up was taken from, else from the last one."""
    run = reads.read(overview.read_run, draft.again).value if draft.again else _find_last()
    if run is None:
        return
    pairs = {
        "Model": (f"{run.model} v{run.model_version}", f"{draft.model} v{draft.model_version}"),
        "Compute": (run.compute, draft.compute),
    }
    if run.tags.get(tags.DATASET_KEY, draft.dataset) != draft.dataset:
        chosen = datasets.find_dataset(draft.dataset)
        pairs["Data"] = (run.dataset, chosen.name if chosen else "other data")
    before = words.plain(run.title)
    rows = [{"": what, before: was, "This run": now} for what, (was, now) in pairs.items() if was != now]
    rows += [
        {"": BY_NAME[name].label, before: say_value(name, run.parameters[name]), "This run": say_value(name, value)}
        for name, value in recipe.values.items()
        if name in run.parameters and _text(run.parameters[name]) != _text(value)
    ]
    named = ": " + ", ".join(row[""] for row in rows[:_NAMED]) + (", …" if len(rows) > _NAMED else "") if rows else ""
    with st.expander(f"Changed from {before} ({len(rows)}){named}", icon=":material/difference:", key="changes"):
        if rows:
            st.table(rows, hide_index=True, alt=f"{len(rows)} choices differ from {run.title}")
        else:
            st.text(f"Everything is as in {run.title}.")


def _text(value: object) -> str:
    """Numbers that are equal read the same: 2e-05 and 0.00002."""
    try:
        return f"{float(str(value)):g}"
    except ValueError:
        return str(value)
