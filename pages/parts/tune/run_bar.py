"""What can be done with the runs that are ticked: compare, name, tag, archive, start again; and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from core import operations, overview
from core.azureml.connection import Connection
from core.operations import Operation
from core.runs.comparison import MOST_COMPARED
from core.runs.index import RunList
from core.runs.states import Run
from pages.parts.kit import reads, words
from pages.parts.kit.action import action, link_button
from pages.parts.kit.links import link
from pages.parts.kit.live import live
from pages.parts.kit.state import ui
from pages.parts.kit.steps import draw_operation_error
from pages.parts.tune.again import link_again
from pages.parts.tune.naming import draw_rename


def read_archived(conn: Connection) -> RunList:
    """Return the runs that are archived, the newest first."""
    return overview.read_runs(conn, archived=True)


def draw_bar(ticked: Sequence[Run], *, archived: bool) -> None:
    """Draw, at the bottom, where it moves nothing, what was done last and what can be done with what is ticked."""
    with st.bottom, st.container(horizontal=True, vertical_alignment="center", gap="small", key="ticked"):
        _draw_done(ticked)
        if ticked:
            _draw_actions(ticked, archived=archived)


def _draw_actions(ticked: Sequence[Run], *, archived: bool) -> None:
    names = [run.name for run in ticked]
    st.text(f"{len(ticked)} ticked", width="content")
    if 2 <= len(ticked) <= MOST_COMPARED:
        target = link("compare", runs=",".join(names))
        action("Compare", lambda: target, key="compare", type="primary", icon="compare_arrows")
    else:
        st.caption(f"Compare takes 2 to {MOST_COMPARED} runs.", width="content")
    if len(ticked) == 1:
        link_button("Start again…", link_again(names[0]), key="again", icon="replay")
        draw_rename(ticked[0])
    with st.popover("Tags", icon=":material/sell:", key="tags"):
        _draw_tags(ticked)
    label, icon = ("Bring back", "unarchive") if archived else ("Archive", "archive")
    help = None if archived else "Out of the list on every machine. Nothing is deleted, and you can bring it back."
    action(label, _change, names, {"archived": not archived}, key="archive", icon=icon, help=help)
    action("Clear", _untick, key="untick", icon="close")


def _draw_tags(runs: Sequence[Run]) -> None:
    there = sorted({name for run in runs for name in run.labels})
    with st.form("tag-runs", border=False, clear_on_submit=True):
        st.text_input("Add a tag", key="tag-added", placeholder="name or name=value")
        if there:
            st.multiselect("Remove tags", there, key="tags-removed")
        action("Save tags", _tag, [run.name for run in runs], key="save-tags", icon="check", in_form=True)


def _tag(runs: Sequence[str]) -> None:
    name, _, value = str(st.session_state["tag-added"]).partition("=")
    add = {name.strip(): value.strip()} if name.strip() or value else {}
    removed = list(st.session_state.get("tags-removed", ()))
    if add or removed:
        _change(runs, {"add": add, "without": removed})


def _change(runs: Sequence[str], wish: dict[str, Any]) -> None:
    _follow(operations.start_labels(ui().alias or "", runs, **wish))


def _follow(operation: Operation) -> None:
    ui().view["labelled"] = operation.id


def _draw_done(ticked: Sequence[Run]) -> None:
    """Draw what became of the last change, and its undo."""
    asked = operations.find_operation(ui().view.get("labelled", ""))
    if asked is None:
        return
    if not asked.finished:
        live(lambda: operations.get_operation(asked.id).state, key="labelling", run_every=0.5, token=asked.state)
        st.caption(words.plain(f"{asked.title}…"), width="content")
        return
    if ui().view.get("labelled-seen") != asked.id:
        ui().view["labelled-seen"] = asked.id
        reads.forget(overview.read_runs, read_archived)
        st.rerun()  # the list was drawn before it was forgotten
    if asked.state != "failed":
        missed = any(asked.facts.get("labelled", {}).values())
        st.text(f"{asked.title}: {asked.steps[-1].detail if missed else asked.outcome}", width="content")
        action("Undo", lambda: _follow(operations.start_undo(asked.id)), key="undo-labels", icon="undo")
    elif [run.name for run in ticked] != [asked.subject]:  # whose name's field says so
        draw_operation_error(asked, key="labels")


def _untick() -> None:
    ui().view.update(ticked=(), turn=ui().view.get("turn", 0) + 1)
