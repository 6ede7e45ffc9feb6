"""What a run is started with: its fields, in one place for the ledger, the job that is sent and the list of runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from core.azureml import tags
from core.launch.plan import Check, LaunchPlan
from core.recipe import Value, to_job_inputs
from core.runs.titles import check_note


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What a run is started with."""

    title: str = ""
    note: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    """A person's own tags."""
    display_name: str = ""
    experiment: str = ""
    model: str = ""
    model_version: str = ""
    model_id: str = ""
    compute: str = ""
    gpus: int = 0
    dataset: str = ""
    """The name of the data; `dataset_key` finds it again in the home."""
    dataset_key: str = ""
    rows: int = 0
    """Training rows of the data."""
    total_steps: int = 0
    row_tokens: float = 0.0
    """Tokens of the middle row trained on, each token counted alike."""
    work_tokens: float = 0.0
    """Tokens that the run goes through, those of a validation for as much as they take."""
    peak_tokens_per_s: float | None = None
    """At the whole speed of its GPUs, where that is known."""
    told_low_s: float | None = None
    """How long it was said to take."""
    told_high_s: float | None = None
    agreed: str = ""
    """The price per hour of its nodes that was shown at the click, as of `caps.to_agreed`."""
    cap: str = ""
    """What it may cost in all, as its tag says it; "" for no cap."""
    ends_at_cap: bool = False
    """Whether it is cancelled then."""
    checks: tuple[Check, ...] = ()
    """What was checked before it."""
    parameters: Mapping[str, Value] = field(default_factory=dict)
    """What is not the component's own default."""
    draft: str = ""
    """Id and revision of the draft as it was started."""
    revision: int = 0
    group: str = ""
    """The name of the group that it is one of, "" for none."""
    continues: str = ""
    """The checkpoint of an earlier run that it goes on from, as "run/checkpoint-40"; "" for none."""

    @property
    def job_tags(self) -> dict[str, str]:
        """What its job is tagged with, so that any Tunedeck can read it."""
        return {
            **self.labels,
            tags.TITLE: self.title,
            tags.DRAFT: self.draft,
            tags.MODEL: self.model,
            tags.MODEL_VERSION: self.model_version,
            tags.MODEL_ID: self.model_id,
            tags.DATASET: self.dataset,
            tags.DATASET_KEY: self.dataset_key,
            tags.ROWS: str(self.rows),
            tags.STEPS: str(self.total_steps),
            tags.COMPUTE: self.compute,
            tags.GPUS: str(self.gpus),
            tags.RECIPE: tags.format_recipe(self.parameters),
            tags.MADE_BY: tags.made_by(),
            **({tags.NOTE: self.note} if self.note else {}),
            **({tags.GROUP: self.group} if self.group else {}),
            **({tags.CONTINUES: self.continues} if self.continues else {}),
        }


def make_request(plan: LaunchPlan, title: str) -> RunRequest:
    """Return what a plan sends; raises BadInput where a setting has a problem."""
    return RunRequest(
        title=title,
        note=check_note(plan.draft.note),
        labels=tags.parse_labels(plan.draft.labels),
        display_name=plan.display_name,
        experiment=plan.experiment,
        model=plan.model.name,
        model_version=plan.model.version,
        model_id=plan.model.id,
        compute=plan.compute.name,
        gpus=plan.gpus,
        dataset=plan.dataset.name,
        dataset_key=plan.dataset.key,
        rows=plan.dataset.rows,
        total_steps=plan.total_steps,
        row_tokens=plan.row_tokens,
        work_tokens=plan.work_tokens,
        peak_tokens_per_s=plan.estimate.peak if plan.estimate else None,
        told_low_s=plan.estimate.low_s if plan.estimate else None,
        told_high_s=plan.estimate.high_s if plan.estimate else None,
        checks=tuple(replace(check, fix=None) for check in plan.checks),
        parameters=to_job_inputs(plan.recipe),
        draft=plan.draft.id,
        revision=plan.draft.revision,
    )


def digest(plan: LaunchPlan) -> str:
    """Return a hash of the draft as it stands, the recipe and the data: the same plan has the same."""
    draft = plan.draft
    parts = [draft.id, draft.nonce, draft.revision, plan.model.id, plan.compute.name, plan.gpus, plan.dataset.key]
    return hashlib.sha256(json.dumps([parts, to_job_inputs(plan.recipe)], sort_keys=True).encode()).hexdigest()
