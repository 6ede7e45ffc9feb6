"""The Launch page's pieces: the plan, the summary, what differs from the last run, the script."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import streamlit as st

from core import dataset as datasets
from core import operations
from core.azureml.reader import Snapshot
from core.azureml.settings import LOCAL
from core.catalog import base_models
from core.errors import TunedeckError
from core.launch import preflight
from core.launch.drafts import Draft
from core.launch.plan import LaunchPlan
from core.launch.preflight import LaunchFacts
from core.operations import Operation
from core.recipe import Recipe, build_recipe, total_batch_size
from pages.parts.kit import reads, words
from pages.parts.kit.action import draw_download, link_button
from pages.parts.kit.links import link
from pages.parts.kit.notices import draw_empty
from pages.parts.tune.again import link_again


def read_facts(draft: Draft) -> Snapshot[LaunchFacts]:
    """Return what a draft stands on, read off the page."""
    choices, tokenizer = (draft.model, draft.model_version, draft.compute, draft.dataset), find_tokenizer(draft)
    chosen = datasets.find_dataset(draft.dataset)
    counted = chosen is not None and datasets.read_checks(chosen, tokenizer).tokens
    return reads.read(preflight.read_facts, *choices, max_age_s=10.0, phase=counted)


def read_current_plan(draft: Draft) -> Snapshot[LaunchPlan]:
    """Return the plan of just this draft, whatever another tab makes of it."""
    snapshot = read_facts(draft)
    plan, error = None, snapshot.error
    if snapshot.value is not None:
        try:
            plan = preflight.make_plan(snapshot.value, draft)
        except TunedeckError as caught:
            error = caught
    return Snapshot(plan, snapshot.read_at, error, snapshot.age_s, snapshot.loading, snapshot.failures)


def find_tokenizer(draft: Draft) -> Path | None:
    """Return the folder with the tokenizer of a draft's model, None where it is not on this machine."""
    return datasets.find_tokenizer(draft.model, draft.model_version)


def find_recipe(draft: Draft, plan: LaunchPlan | None) -> Recipe | None:
    """Return the settings of a draft from its plan, or from the model while what that stands on is being read."""
    if plan is not None:
        return plan.recipe
    found = reads.read(base_models.get_base_model, draft.model, draft.model_version or "latest", max_age_s=300.0).value
    return build_recipe(found.defaults, draft.parameters, here=draft.connection == LOCAL) if found is not None else None


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
    link_button("Start again…", link_again(started.subject), key="again", icon="replay", type="primary")
    return True


def draw_name(recipe: Recipe, plan: LaunchPlan | None) -> None:
    """Draw the total batch with its factors, and the long name the lesson would give the run."""
    gpus = plan.gpus if plan else 0
    total = total_batch_size(recipe.counted, gpus)
    batch, accumulation = recipe.whole("per_device_train_batch_size"), recipe.whole("gradient_accumulation_steps")
    devices, nodes = max(1, gpus), recipe.whole("num_nodes_finetune")
    machines = f"{words.plural(devices, 'device')} × {words.plural(nodes, 'node')}"
    st.text(f"Total batch {total} = {batch} per device × {accumulation} accumulation × {machines}")
    if plan is not None:
        st.text(f"{words.plural(plan.total_steps, 'step')} in all")
        st.caption("Display name")
        st.code(plan.display_name, language=None, wrap_lines=True)


def draw_script(plan: LaunchPlan | None) -> None:
    """Draw the lesson's own script with these values, to take away."""
    with st.expander("Python for this run", icon=":material/code:"):
        if plan is None:
            st.skeleton(120)
            return
        st.code(plan.script, language="python", height=360)
        draw_download("Download", plan.script, "run.py", key="download-script")


def summary_words(draft: Draft, facts: Mapping[str, str]) -> str:
    """Return "SmolLM2-135M-Instruct v1 · sample-support · this-machine"."""
    model = f"{draft.model} v{draft.model_version}" if draft.model_version else draft.model
    return " · ".join((model, facts.get("dataset", "your data"), draft.compute))
