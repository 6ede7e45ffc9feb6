"""From a run on this machine to the same set-up on Azure: the way there, and what differs before it starts."""

from __future__ import annotations

import streamlit as st

from core import operations
from core.azureml.settings import LOCAL, Settings, list_settings
from core.launch import rehearsal
from core.launch.drafts import Draft
from core.launch.plan import LaunchPlan
from core.runs.states import Run
from pages.parts.kit import words
from pages.parts.kit.action import action
from pages.parts.kit.links import Link, link
from pages.parts.kit.state import ui


def draw_way(run: Run) -> None:
    """Draw how a completed run of this machine goes on to Azure; nothing for a run that was on Azure."""
    if ui().alias != LOCAL or not run.completed:
        return
    with st.expander("Rehearsed here, ready for Azure", icon=":material/cloud_upload:"):
        st.text("Data and your settings go along. Model and compute are chosen there, with their price.")
        others = [known for known in list_settings() if known.kind == "azure"]
        for known in others[:3]:
            action(
                f"Take it to Azure · {words.plain(known.workspace_name)}",
                _take,
                run,
                known,
                key=f"take-{known.alias}",
                icon="cloud",
            )
        if not others:
            link("connect", where="Azure").draw("Connect Azure first", icon="cloud")


def draw_difference(draft: Draft, plan: LaunchPlan | None) -> None:
    """Draw what differs from the rehearsal; nothing where there was none."""
    rehearsed = rehearsal.find_rehearsal(draft)
    if plan is None or rehearsed is None:
        return
    rows = [
        {"": what, "On this machine": here, "This run": there}
        for what, here, there in rehearsal.compare(rehearsed, plan)
    ]
    with st.expander("Rehearsed here, ready for Azure", icon=":material/cloud_upload:", expanded=True):
        st.table(rows, hide_index=True, alt="Size, model and price of the rehearsal and of this run")


def _take(run: Run, known: Settings) -> Link:
    draft = operations.copy_setup(run, LOCAL, known.alias)
    ui().alias, ui().draft_id = known.alias, draft.id
    return link("model")
