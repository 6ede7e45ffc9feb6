"""Start a run: send the data, submit the job, watch it, evaluate it."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from core import dataset as datasets
from core.alerts.book import AlertBook
from core.azureml import tags
from core.catalog.compute import get_compute
from core.catalog.prices import PRICE_UNKNOWN
from core.dataset import ChatDataset
from core.errors import BadInput, NotFound, TunedeckError
from core.launch.drafts import Draft, create_draft, find_draft, mark_launched
from core.launch.group import MOST_RUNS, GroupPlan
from core.launch.pipeline import PipelineRequest, has_run, submit_pipeline
from core.launch.plan import LaunchPlan
from core.launch.request import RunRequest, digest, make_request
from core.operations.change import Change, Done, Outcome, Skip, StepSpec, Stop, Wait
from core.operations.ledger import Ledger
from core.operations.news import tell_group, tell_run
from core.operations.records import Operation, OperationState, StepState
from core.operations.spending import spending
from core.operations.work import LOCAL_LOOK_S, Work
from core.recipe import Value, list_changed
from core.runs import history
from core.runs.evaluation import submit_evaluation
from core.runs.history import RunRecord
from core.runs.jobs import evaluation_name, find_job, get_run, has_job
from core.runs.metrics import RunMetrics, read_metrics
from core.runs.states import EVALUATION, JobState, Run
from core.runs.throughput import Pace, add_pace, find_pace
from core.runs.titles import check_title, new_run_name, new_title
from core.teardown.caps import Wanted, parse_cap

NEVER_SHOWN_S = 600.0  # how long a run is looked for that the workspace has confirmed and does not show
_WATCH_S = (1.5, 10.0)  # how often a run is looked at: at first, and once it has gone on for a quarter of an hour


@dataclass(frozen=True)
class Launch(RunRequest, Change, stored_as="launch"):
    """A run. `subject` is its job's name."""

    words = "Start {}"
    again_after_s = math.inf

    @property
    def label(self) -> str:
        """The run's name."""
        return self.title or self.subject

    @property
    def _key(self) -> str:
        return f"{self.draft}:{self.revision}" if self.draft and not self.group else self.subject

    def _list_steps(self) -> tuple[StepSpec[Work[Launch]], ...]:
        data = f"data {self.dataset_key}"  # the same new data is sent once
        return (
            StepSpec("upload", "Send the data", _send_data, alone=data),
            StepSpec("register", "Register the data", _register_data, alone=data),
            StepSpec("submit", "Start the run", _submit),
            StepSpec("watch", "Train", _watch, watches=True),
            StepSpec("evaluate", "Start the evaluation", _evaluate),
            StepSpec("watch_evaluation", "Evaluate", _watch_evaluation),
        )

    def is_of(self, draft: Draft) -> bool:
        """Whether it was started with just this draft's own settings."""
        return self.revision == draft.revision and not self.group

    def renew(self) -> Launch:
        """Return the launch of another run like this."""
        seed = secrets.token_hex(4)
        return replace(self, subject=new_run_name(new_title(seed), seed))

    @classmethod
    def from_stored(cls, subject: str, stored: Mapping[str, Any]) -> Self:
        """Return the change from its arguments; those of an older Tunedeck hold the job's tags."""
        old = stored.get("tags") or {}
        found = {"draft": old.get(tags.DRAFT, ""), "rows": int(old.get(tags.ROWS) or 0)}
        return super().from_stored(subject, {**found, **stored})


def start_launch(plan: LaunchPlan, *, agreed: str = "", cap: str = "", ends_at_cap: bool = False) -> Operation:
    """Record a run; `subject` is its job name, so the page can go to /runs?run=<subject> at once.

    The name is made of the draft as it stands, the recipe and the data. So a second click on the same draft gives the
    same operation, and one after the ledger lost its last lines finds the job that was sent. Raises BadInput while a
    check fails. A draft without a name gets two words made of the same. agreed, cap, ends_at_cap: see RunRequest.
    """
    if plan.failures:
        failed = plan.failures[0]
        raise BadInput(f"{failed.title}: {failed.detail}", failed.hint)
    seed = digest(plan)
    parse_cap(cap)
    made = new_title(seed)
    request = make_request(plan, check_title(plan.draft.title or made))
    request = replace(request, agreed=agreed, cap=cap, ends_at_cap=ends_at_cap)
    change = Launch(new_run_name(made, seed), **vars(request))
    operation = Ledger().start(plan.draft.connection, change)
    mark_launched(plan.draft.id, operation.id, plan.draft.revision)
    return operation


def start_group(group: GroupPlan, *, agreed: str = "", cap: str = "", ends_at_cap: bool = False) -> list[Operation]:
    """Record the runs of a group, all at once; a second click on the same gives the same operations.

    Raises BadInput while a check of one of them fails. agreed: of one run. cap: of all; each is held to its share.
    """
    if group.failures:
        raise BadInput(f"{group.failures[0].title}: {group.failures[0].detail}", group.failures[0].hint)
    count, whole = len(group.plans), parse_cap(cap)
    share = replace(whole, amount=whole.amount / count).tag if whole else ""
    name, draft = group.name, group.plans[0].draft
    more = {"group": name, "agreed": agreed, "cap": share, "ends_at_cap": ends_at_cap}
    requests = [make_request(plan, check_title(title)) for plan, title in zip(group.plans, group.titles, strict=True)]
    changes = [Launch(f"{name}-{place}", **{**vars(each), **more}) for place, each in enumerate(requests, 1)]
    return Ledger().start_all(draft.connection, changes)


def list_group(ledger: Ledger, connection: str, group: str) -> list[Operation]:
    """Return the launches of a group that were recorded here."""
    found = (find_launch(ledger, connection, f"{group}-{place}") for place in range(1, MOST_RUNS + 1))
    return [launch for launch in found if launch is not None]


def copy_setup(run: Run, of: str, to: str = "") -> Draft:
    """Make a draft with what a run was started with, bettered where its error says how.

    of: alias of the run's connection. to: the draft's, where it is another; model and compute are chosen anew there.
    """
    ours = run.tags.get(tags.MADE_BY) in (None, tags.made_by())  # the same id is another draft in another home
    draft = find_draft(run.tags.get(tags.DRAFT, "")) if ours else None
    dataset = run.tags.get(tags.DATASET_KEY) or (draft.dataset if draft else "")
    own = _list_own_settings(run, of, draft)
    if to and to != of:
        return create_draft(to, dataset=dataset, parameters=own)
    fixes = run.error.settings if run.error else {}
    return create_draft(
        of,
        model=run.model,
        model_version=run.model_version,
        retired_model=draft.retired_model if draft else "",
        compute=run.compute,
        dataset=dataset,
        parameters={**own, **fixes},
        again=run.name,
    )


def _list_own_settings(run: Run, connection: str, draft: Draft | None) -> dict[str, Value]:
    """Return the operator's settings of a run: its draft's, or if that was edited since, all but the defaults."""
    launch = find_launch(Ledger(), connection, run.name)
    if draft and launch and isinstance(launch.change, Launch) and launch.change.is_of(draft):
        return dict(draft.parameters)
    sent = {name: run.parameters[name] for name in (draft.parameters if draft else ()) if name in run.parameters}
    own = {**sent, **(tags.parse_recipe(run.tags.get(tags.RECIPE)) or list_changed(run.parameters))}
    own.pop("resume_from_checkpoint", None)  # a copy begins at the beginning
    return own


def find_launch(ledger: Ledger, connection: str, run: str) -> Operation | None:
    """Return the newest launch of a run, or None where it was not started from here."""
    return ledger.find_latest(connection, run, Launch.stored_as)


def was_sent(launch: Operation) -> bool:
    """Tell whether the workspace has confirmed the run of a launch."""
    submit = launch.find_step("submit")
    return submit is not None and submit.state is StepState.DONE


def _send_data(work: Work[Launch]) -> Outcome:
    dataset = _dataset(work)
    sent = datasets.upload(work.conn, dataset, lambda done, total: work.report(f"{done:,} of {total:,} bytes"))
    detail = f"{sent.bytes_sent:,} bytes sent" if sent.bytes_sent else "Was there already"
    return Done(detail, {"train_uri": sent.train_uri, "test_uri": sent.test_uri})


def _register_data(work: Work[Launch]) -> Outcome:
    uploaded = datasets.UploadedData(work.facts["train_uri"], work.facts["test_uri"], 0)
    assets = datasets.register_data(work.conn, _dataset(work), uploaded)
    return Done(f"{assets.name} version {assets.version}", {"train_id": assets.train_id, "test_id": assets.test_id})


def _submit(work: Work[Launch]) -> Outcome:
    request = PipelineRequest(
        name=work.change.subject,
        run=work.change,
        train=work.facts["train_id"],
        test=work.facts["test_id"] or "",
        operation=work.operation.id,
        policy_tags=work.conn.policy_tags,
    )
    nodes = int(work.change.parameters.get("num_nodes_finetune") or 1)
    waiting = work.send_once(
        "job",
        "the run",
        lambda: has_run(work.conn, request),
        lambda: submit_pipeline(work.conn, request),
        guard=lambda: spending(work, work.change.agreed, lambda: _price(work, nodes)),
    )
    return waiting or Done("Confirmed")


def _price(work: Work[Launch], nodes: int) -> Wanted:
    compute = get_compute(work.conn, work.change.compute)
    return Wanted(compute.price.times(nodes), compute=compute.name, nodes=nodes)


def _watch(work: Work[Launch]) -> Outcome:
    job = work.change.subject
    record = history.find_record(work.conn, job)
    if record is None:
        return _wait_until_shown(work, job, "run")
    state = record.status
    if not state.finished:
        return Wait(state.word, _pause(work), {"unseen_s": 0.0})
    run = get_run(work.conn, job)
    if not work.change.continues:
        _remember_pace(work, run)
    _tell(work, run)
    if run.completed:
        return Done(state.word)
    return Stop(f"The run is {state.word.lower()}; it is not evaluated.", cancelled=state is JobState.CANCELED)


def _tell(work: Work[Launch], run: Run) -> None:
    """Note the alert of a run's end, whatever becomes of its evaluation; of a group's runs, once all have ended."""
    ended = (work.ledger.find_latest(work.operation.connection, run.name, kind) for kind in ("cancel", "run_at_cap"))
    alert = tell_run(work.operation.connection, run, cancelled_here=any(ended))
    if group := work.change.group:
        work.record(ended=run.state_word.lower())
        launches = list_group(work.ledger, work.operation.connection, group)
        alert = tell_group(work.operation.connection, group, [_find_end(each) for each in launches])
    if alert:
        AlertBook(work.ledger.home).note(alert)


def _find_end(launch: Operation) -> str:
    """Return how a run ended, "failed" where it was not started, "" while it goes on."""
    not_started = "failed" if launch.state is OperationState.FAILED else "cancelled"
    return str(launch.facts.get("ended") or (not_started if launch.finished else ""))


def _evaluate(work: Work[Launch]) -> Outcome:
    if not work.facts.get("test_id"):
        return Skip("The data has no test rows")
    run = get_run(work.conn, work.change.subject)
    inputs = {**run.inputs, "test_file_path": str(work.facts["test_id"])}
    run = replace(run, inputs=inputs, model_id=work.change.model_id, compute=work.change.compute)
    name = evaluation_name(run.name)
    agreed = work.change.agreed and PRICE_UNKNOWN  # to the run, with its evaluation: of that the caps alone are held
    waiting = work.send_once(
        "evaluation",
        "the evaluation",
        lambda: has_job(work.conn, name),
        lambda: submit_evaluation(work.conn, run),
        guard=lambda: spending(work, agreed, lambda: _price(work, nodes=1)),
    )
    return waiting or Done("Confirmed")


def _watch_evaluation(work: Work[Launch]) -> Outcome:
    if not work.facts.get("test_id"):
        return Skip()
    name = evaluation_name(work.change.subject)
    record = history.find_record(work.conn, name)
    if record is None:
        return _wait_until_shown(work, name, "evaluation")
    state = record.status
    if not state.finished:
        return Wait(state.word, _pause(work), {"unseen_s": 0.0})
    if state is JobState.COMPLETED:
        _remember_evaluation(work, record)
        return Done(state.word)
    return Stop(f"The evaluation is {state.word.lower()}; the model is not harmed.")


def _wait_until_shown(work: Work[Launch], job: str, what: str) -> Wait:
    """Wait for a job that was confirmed and that the workspace does not show; raises NotFound after NEVER_SHOWN_S,
    and sooner where it was deleted.
    """
    work.find_confirmed(f"{what} '{job}'", lambda: find_job(work.conn, job))
    unseen_s = float(work.facts.get("unseen_s", 0.0))
    if unseen_s >= NEVER_SHOWN_S:
        work.record(unseen_s=0.0)  # a retry looks as long again
        raise NotFound(
            f"The workspace confirmed the {what} '{job}', and has not shown it for {NEVER_SHOWN_S / 60:.0f} min.",
            "Look for it in the workspace. Cancel it here to give it up, or retry to look for it again.",
        )
    pause = _pause(work)
    return Wait(f"Confirmed; the workspace does not show the {what} yet", pause, {"unseen_s": unseen_s + pause})


def _dataset(work: Work[Launch]) -> ChatDataset:
    dataset = datasets.find_dataset(work.change.dataset_key)
    if dataset is None:
        raise NotFound(f"The data '{work.change.dataset}' is no longer in this home.", "Choose the data again.")
    return dataset


def _pause(work: Work[Launch]) -> float:
    step, (first_s, last_s) = work.operation.step, _WATCH_S
    age = (step.seconds or 0.0) / 900 if step else 0.0
    return max(LOCAL_LOOK_S if work.conn.cloud.is_local else first_s, min(last_s, age * last_s))


def _remember_pace(work: Work[Launch], run: Run) -> None:
    """Keep what the run measured for the next estimate; a run without a speed says nothing."""
    try:
        while not (measures := read_metrics(work.conn, run.name)).complete:
            continue
    except TunedeckError:
        return  # an estimate without this run is no reason to fail
    launch = work.change
    speed, trained_s = _measure_speed(measures, launch, run)
    if not speed:
        return
    pace = Pace(
        tokens_per_s=speed,
        row=launch.row_tokens or Pace.row,
        lora=run.parameters.get("apply_lora") == "true",
        around_s=max(0.0, run.seconds - trained_s) if run.seconds is not None and trained_s else None,
        told_low_s=launch.told_low_s,
        told_high_s=launch.told_high_s,
        took_s=None if work.facts.get("test_id") or not run.completed else run.seconds,
        peak=launch.peak_tokens_per_s,
        stages={
            stage.name: round(stage.seconds, 1)
            for stage in run.stages
            if stage.state is JobState.COMPLETED and stage.seconds is not None
        },
    )
    add_pace(work.operation.connection, run.model, run.compute, run.name, pace)


def _measure_speed(measures: RunMetrics, launch: Launch, run: Run) -> tuple[float | None, float | None]:
    """Return the tokens per second and the seconds of training.

    Where no tokens are logged, as on Azure, they are those of the rows. A run that pads its rows and logs tokens says
    nothing: it measures them without the padding, and estimates count that, too.
    """
    trained, loss = measures.get("train_runtime").last, measures.get("loss")
    logged = [value for value in measures.get("tokens_per_second").values if 0 < value < math.inf]
    if logged:
        is_padded = run.parameters.get("pad_to_max_length") == "true"
        return None if is_padded else sorted(logged)[len(logged) // 2], trained.value if trained else None
    end, pace_s = trained or loss.last, loss.find_pace()
    steps = (end.step if end else 0) or launch.total_steps
    seconds = trained.value if trained else pace_s * steps if pace_s else 0.0
    if not (launch.work_tokens and launch.total_steps and seconds > 0):
        return None, None
    return launch.work_tokens * steps / launch.total_steps / seconds, seconds


def _remember_evaluation(work: Work[Launch], record: RunRecord) -> None:
    """Add to what the run measured how long its evaluation took, and with it the whole."""
    pace = find_pace(work.change.subject)
    if pace is None or record.started_at is None or record.ended_at is None:
        return
    took = (record.ended_at - record.started_at).total_seconds()
    run = get_run(work.conn, work.change.subject)
    whole = run.seconds + took if run.seconds is not None else None
    added = replace(pace, evaluation_s=took, took_s=whole, stages={**pace.stages, EVALUATION: round(took, 1)})
    add_pace(work.operation.connection, run.model, run.compute, run.name, added)
