"""The Launch page's pieces: the card that says whether a run is ready, the summary, what changed, the script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from core import drafts, models, operations, overview, preflight
from core.connection import Connection
from core.drafts import Draft
from core.operations import Operation
from core.preflight import Check, LaunchPlan
from core.reader import Snapshot
from core.recipe import BY_NAME, Recipe, build_recipe, total_batch_size
from core.run_states import Run
from pages.parts import reads, words
from pages.parts.action import Confirm, action, open_dialog
from pages.parts.links import link
from pages.parts.notices import draw_empty, draw_error, draw_hint
from pages.parts.state import ui

_BADGES = {
    "ok": ("OK", "check_circle", "green"),
    "warning": ("Note", "warning", "orange"),
    "failed": ("Failed", "error", "red"),
}


def read_plan(conn: Connection, draft_id: str, revision: int) -> LaunchPlan:
    """Plan the draft as it is saved. revision: makes an edited draft another reading."""
    return preflight.plan_launch(conn, drafts.get_draft(draft_id))


def read_current_plan(draft: Draft) -> Snapshot[LaunchPlan]:
    """Return the plan of the draft as it stands, and remember it as the last known one."""
    snapshot = reads.read(read_plan, draft.id, draft.revision, max_age_s=10.0)
    if snapshot.value is not None:
        ui().notes[f"plan-{draft.id}"] = snapshot.value
    return snapshot


def find_recipe(draft: Draft, plan: LaunchPlan | None) -> Recipe | None:
    """Return the settings of a draft at once, from the last plan or the model, while the checks are being made."""
    if plan is not None:
        return plan.recipe
    known: LaunchPlan | None = ui().notes.get(f"plan-{draft.id}")
    if known is not None and known.model.name == draft.model:
        return build_recipe(known.model.defaults, draft.parameters, tuple(known.recipe.values))
    found = reads.read(models.get_base_model, draft.model, draft.model_version or "latest", max_age_s=300.0).value
    return build_recipe(found.defaults, draft.parameters) if found is not None else None


def what_is_missing(draft: Draft) -> tuple[str, str, str] | None:
    """Return the first choice that is not made yet: a sentence, the page to make it on, its link's words."""
    if not draft.model:
        return "Choose a model first.", "model", "Go to Model & compute"
    if not draft.compute:
        return "Choose a compute first.", "model", "Go to Model & compute"
    if not draft.dataset:
        return "Choose data first.", "data", "Go to Data"
    return None


def draw_launched(draft: Draft) -> bool:
    """Draw that this draft was started already; True where it was."""
    started = operations.find_operation(draft.launched) if draft.launched else None
    if started is None or started.state == "failed":
        return False
    title = started.arguments.get("title") or started.subject
    draw_empty(f"This set-up was started as {title}.", link("runs", run=started.subject), "Open the run")
    action("Copy this set-up", copy_draft, draft, key="copy-draft", icon="content_copy", type="primary",
           then=lambda copy: link("launch", draft=copy.id))  # fmt: skip
    return True


def copy_draft(draft: Draft) -> Draft:
    """Make a draft of its own with the same choices."""
    return drafts.create_draft(draft.connection, model=draft.model, model_version=draft.model_version,
                               compute=draft.compute, dataset=draft.dataset, parameters=draft.parameters)  # fmt: skip


def draw_ready(draft: Draft, snapshot: Snapshot[LaunchPlan]) -> None:
    """Draw the checks, the estimate and the one button."""
    plan = snapshot.value
    if plan is not None and ui().notes.pop(_wish(draft.id), False) and plan.ready:
        if not _costs_money():
            link("runs", run=start(plan).subject).go()
        open_dialog("start")
    with st.container(border=True):
        st.header("Ready" if plan is None or plan.ready else "Not ready", anchor=False)
        if plan is not None:
            with st.container(gap="xsmall"):
                for check in sorted(plan.checks, key=lambda check: check.state != "failed"):
                    _draw_check(check)
            _draw_estimate(plan)
        elif snapshot.error is not None:
            draw_error(snapshot.error, key="plan")
        else:
            for _ in range(5):
                st.skeleton(24)
        _draw_start(draft, plan, off="The set-up cannot be read." if plan is None and snapshot.error else "")


def _draw_check(check: Check) -> None:
    word, icon, colour = _BADGES[check.state]
    detail = f" :small[{words.plain(check.detail)}]" if check.detail else ""
    st.markdown(f":{colour}-badge[:material/{icon}: {word}] **{words.plain(check.title)}**{detail}")
    if check.hint and check.state != "ok":
        draw_hint(check.hint)


def _draw_estimate(plan: LaunchPlan) -> None:
    if plan.estimate is None:
        st.text("How long it takes is not known yet.")
        return
    st.markdown(f"**{words.plain(plan.estimate.time_words)}**, **{words.plain(plan.estimate.cost_words)}**")
    st.caption(words.plain(f"Basis: {plan.estimate.basis}."))


def _draw_start(draft: Draft, plan: LaunchPlan | None, off: str) -> None:
    """Draw the button. It stays on while the checks run: a field's last edit arrives with the click on it."""
    failed = [check.title for check in plan.checks if check.state == "failed"] if plan else []
    if failed:
        verb = "checks fail" if len(failed) > 1 else "check fails"
        off = f"{len(failed)} {verb}: {', '.join(failed).lower()}."
    cost = plan.estimate.cost_words if plan and plan.estimate else "price unknown"
    label = f"Start run on Azure, {words.plain(cost)}" if _costs_money() else "Start run"
    question = _question(plan, label, cost) if plan and _costs_money() else None
    action(label, _begin, draft.id, plan, key="start", type="primary", icon="play_arrow", width="stretch", off=off,
           confirm=question, then=lambda begun: link("runs", run=begun.subject) if begun else None)  # fmt: skip
    if ui().notes.get(_wish(draft.id)):
        st.caption("It starts when the checks are done.")


def _question(plan: LaunchPlan, label: str, cost: str) -> Confirm:
    time = f"About {plan.estimate.time_words}: {cost}. List price, not your bill." if plan.estimate else cost
    return Confirm(
        title="Start a run that costs money?",
        yes=label,
        keep="Keep the draft",
        lines=(f"{plan.model.name} on {plan.compute.name} ({plan.compute.size}), {plan.compute.price.words}.", time),
        ticks=tuple(f"{check.title}: {check.detail}" for check in plan.warnings),
        icon="play_arrow",
    )


def _begin(draft_id: str, plan: LaunchPlan | None) -> Operation | None:
    """Start what was checked; where the draft has changed since, the click is a wish to start once that is checked."""
    if plan is not None and plan.draft.revision == drafts.get_draft(draft_id).revision:
        return start(plan)
    ui().notes[_wish(draft_id)] = True
    return None


def start(plan: LaunchPlan) -> Operation:
    """Record the run; the list of runs is read anew."""
    begun = operations.start_launch(plan)
    reads.forget(overview.read_runs)
    return begun


def _wish(draft_id: str) -> str:
    return f"start-{draft_id}"


def _costs_money() -> bool:
    conn = reads.find_connection()
    return conn is not None and conn.billed


def draw_name(draft: Draft, recipe: Recipe, plan: LaunchPlan | None) -> None:
    """Draw the total batch with its factors, and the long name the lesson would give the run."""
    known: LaunchPlan | None = plan or ui().notes.get(f"plan-{draft.id}")
    gpus = known.gpus if known else 0
    total = total_batch_size(recipe.values, gpus)
    batch, accumulation = recipe["per_device_train_batch_size"], recipe["gradient_accumulation_steps"]
    devices, nodes = max(1, gpus), recipe.values.get("num_nodes_finetune", 1)
    machines = f"{words.plural(devices, 'device')} × {words.plural(int(nodes), 'node')}"
    st.text(f"Total batch {total} = {batch} per device × {accumulation} accumulation × {machines}")
    if plan is not None:
        st.text(f"{words.plural(plan.total_steps, 'step')} in all")
        st.caption("Display name")
        st.code(plan.display_name, language=None, wrap_lines=True)


def draw_changes(recipe: Recipe) -> None:
    """Draw what differs from the last run."""
    runs: Sequence[Run] = reads.read(overview.read_runs, max_age_s=5.0).value or ()
    last = next((run for run in runs if run.parameters), None)
    if last is None:
        return
    rows = [
        {"Setting": BY_NAME[name].label, last.title: str(last.parameters[name]), "This run": str(value)}
        for name, value in recipe.values.items()
        if name in last.parameters and _text(last.parameters[name]) != _text(value)
    ]
    with st.expander(f"Changed from the last run ({len(rows)})", icon=":material/difference:"):
        if rows:
            st.table(rows, hide_index=True, alt=f"{len(rows)} settings differ from {last.title}")
        else:
            st.text(f"The settings are those of {last.title}.")


def draw_script(plan: LaunchPlan | None) -> None:
    """Draw the lesson's own script with these values, to take away."""
    with st.expander("Python for this run", icon=":material/code:"):
        if plan is None:
            st.skeleton(120)
            return
        st.code(plan.script, language="python", height=360)
        st.download_button("Download", plan.script, file_name="run.py", mime="text/x-python", on_click="ignore",
                           icon=":material/download:", key="download-script")  # fmt: skip


def summary_words(draft: Draft, facts: Mapping[str, str]) -> str:
    """Return "SmolLM2-135M-Instruct v1 · sample-support · this-machine"."""
    model = f"{draft.model} v{draft.model_version}" if draft.model_version else draft.model
    return " · ".join((model, facts.get("dataset", "your data"), draft.compute))


def _text(value: object) -> str:
    """Numbers that are equal read the same: 2e-05 and 0.00002."""
    try:
        return f"{float(str(value)):g}"
    except ValueError:
        return str(value)
