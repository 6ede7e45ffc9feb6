"""The Launch page's pieces: the plan, the summary, what differs from the last run, the script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from core import operations, overview
from core.azureml.reader import Snapshot
from core.azureml.settings import LOCAL
from core.catalog import base_models
from core.launch import drafts, preflight
from core.launch.drafts import Draft
from core.launch.plan import LaunchPlan
from core.operations import Operation
from core.recipe import BY_NAME, Recipe, build_recipe, total_batch_size
from core.runs.states import Run
from pages.parts.kit import reads, words
from pages.parts.kit.action import action
from pages.parts.kit.links import link
from pages.parts.kit.notices import draw_empty
from pages.parts.kit.state import ui


def read_current_plan(draft: Draft) -> Snapshot[LaunchPlan]:
    """Return the plan of just this draft, whatever another tab makes of it, and remember it as the last known one."""
    snapshot = reads.read(preflight.plan_launch, draft, max_age_s=10.0)
    if snapshot.value is not None:
        ui().notes[f"plan-{draft.id}"] = snapshot.value
    return snapshot


def find_recipe(draft: Draft, plan: LaunchPlan | None) -> Recipe | None:
    """Return the settings of a draft at once, from the last plan or the model, while the checks are being made."""
    if plan is not None:
        return plan.recipe
    known: LaunchPlan | None = ui().notes.get(f"plan-{draft.id}")
    here = draft.connection == LOCAL
    if known is not None and known.model.name == draft.model:
        return build_recipe(known.model.defaults, draft.parameters, tuple(known.recipe.values), here=here)
    found = reads.read(base_models.get_base_model, draft.model, draft.model_version or "latest", max_age_s=300.0).value
    return build_recipe(found.defaults, draft.parameters, here=here) if found is not None else None


def what_is_missing(draft: Draft) -> tuple[str, str, str] | None:
    """Return the first choice that is not made yet: a sentence, the page to make it on, its link's words."""
    if not draft.model:
        return "Choose a model first.", "model", "Go to Model & compute"
    if not draft.compute:
        return "Choose a compute first.", "model", "Go to Model & compute"
    if not draft.dataset:
        return "Choose data first.", "data", "Go to Data"
    return None


def find_started(draft: Draft) -> Operation | None:
    """Return the operation that started this draft, None where none did or it failed."""
    started = operations.find_operation(draft.launched) if draft.launched else None
    return None if started is None or started.state == "failed" else started


def title_of(started: Operation) -> str:
    """Return the title of the run that an operation started."""
    return started.change.label


def draw_launched(draft: Draft) -> bool:
    """Draw that this draft was started already; True where it was."""
    started = find_started(draft)
    if started is None:
        return False
    draw_empty(f"This set-up was started as {title_of(started)}.", link("runs", run=started.subject), "Open the run")
    action(
        "Copy this set-up",
        drafts.copy_draft,
        draft,
        key="copy-draft",
        icon="content_copy",
        type="primary",
        then=lambda copy: link("launch", draft=copy.id),
    )
    return True


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
        st.download_button(
            "Download",
            plan.script,
            file_name="run.py",
            mime="text/x-python",
            on_click="ignore",
            icon=":material/download:",
            key="download-script",
        )


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
