"""The form that makes an endpoint of a finished run: model, name, size with the reasons against others, delete-at."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import streamlit as st

from core import operations, overview
from core.azureml.connection import Connection
from core.catalog.compute import Size
from core.catalog.prices import Price, money, not_a_bill
from core.errors import BadInput, Conflict
from core.operations import Operation
from core.runs import evaluation
from core.runs.states import Run
from core.serving import endpoints, registered_models
from core.serving.endpoints import EndpointView
from core.serving.registered_models import NAME_RULE, check_model_name
from core.teardown.caps import Wanted, to_agreed
from pages.parts.kit import fields, reads, words
from pages.parts.kit.action import Confirm, action
from pages.parts.kit.guard import end_page
from pages.parts.kit.links import link
from pages.parts.kit.notices import draw_empty, ready
from pages.parts.kit.state import set_url_id, ui, url_id
from pages.parts.operate.caps import check_start, choose_cap, read_cap, say_cap
from pages.parts.operate.idle import HOURS, choose_hours
from pages.parts.serve.delete_at import choose_end, end_after
from pages.parts.serve.deploy_settings import draw_instances, draw_settings, read_instances, read_settings
from pages.parts.serve.deploy_size import choose_size, find_shortage


@dataclass(frozen=True)
class Choice:
    """What will be deployed. problem: why it cannot be yet."""

    run: Run
    model_name: str
    endpoint: str
    size: Size | None
    instances: int
    delete_at: datetime | None
    problem: str

    @property
    def price(self) -> Price:
        """What all its instances cost."""
        return self.size.price.times(self.instances) if self.size else Price(None)

    @property
    def machines(self) -> str:
        """Return "2 × Standard_NC24ads_A100_v4"."""
        size = self.size.name if self.size else ""
        return f"{self.instances} × {size}" if self.instances > 1 else size


def draw_form(conn: Connection) -> None:
    """Draw the choices and the button."""
    run = _choose_run()
    st.header("1 Model", anchor=False)
    _draw_run_choice(run)
    if checkpoint := _checkpoint_of(run):
        st.text(f"{checkpoint} of {run.title} is written as a model first, by a job of the workspace.")
    name = st.text_input(
        "Name of the registered model",
        value=registered_models.suggest_model_name(run),
        key=f"model-{run.name}",
        width=480,
    )
    name = name.strip()
    unnamed = _draw_model_name(name)
    st.header("2 Endpoint", anchor=False)
    endpoint, problem = _choose_endpoint(run, name)
    st.header("3 Size", anchor=False)
    size = choose_size(conn, run)
    running, where = _find_running(run)
    fields_of = f"deploy-{run.name}"
    instances = draw_instances(size, key=fields_of)
    draw_settings(key=fields_of, local=conn.cloud.is_local, running=running, where=where)
    st.header("4 Delete at", anchor=False)
    delete_at = choose_end(billed=conn.costs_money, key="deploy-life")
    choose_hours("Delete it after so long without a request", key="deploy-idle")
    problem = unnamed or problem or find_shortage(size, instances)
    if conn.costs_money:
        choose_cap("endpoint", key=fields_of, currency=size.price.currency if size else "USD")
    choice = Choice(run, name, endpoint, size, instances, delete_at, problem)
    _draw_price(choice)
    _draw_button(conn, choice, fields_of)


def _draw_model_name(name: str) -> str:
    """Say what a registered model of this name would be; returns what is wrong with the name."""
    problem = check_model_name(name) or ""
    if problem:
        st.markdown(f":material/error: {words.plain(problem)}")
        st.text(NAME_RULE)
        return problem
    known = reads.read(registered_models.list_registered_models, max_age_s=10.0).value or ()
    exists = any(model.name == name for model in known)
    st.caption("A new version of this model." if exists else "The first version of a new model.")
    return ""


def _choose_run() -> Run:
    """Return the finished run to deploy: the URL's, or the newest."""
    snapshot = reads.read(overview.read_runs, max_age_s=3.0)
    if not ready(snapshot, "Reading the finished runs…", (80, 64, 64), key="runs"):
        end_page()
    finished = [run for run in snapshot.value or () if run.deployable]
    if not finished:
        draw_empty("No finished run yet.", link("runs"), "See runs")
        end_page()
    wanted = url_id("run")
    by_name = {run.name: run for run in finished}
    if wanted and wanted not in by_name:
        st.text(f"The run '{wanted}' has not completed here. Choose another.")
    ui().notes["deployable"] = finished
    if not wanted:
        set_url_id("run", finished[0].name)  # it stays this one when another ends
    return by_name.get(wanted or "", finished[0])


def _checkpoint_of(run: Run) -> str:
    """Return which checkpoint is deployed: the URL's, the best of a run that did not complete, "" for its own model."""
    of, _, checkpoint = (url_id("checkpoint") or "").partition("/")
    return checkpoint if of == run.name else run.kept


def _draw_run_choice(run: Run) -> None:
    runs: Sequence[Run] = ui().notes["deployable"]
    by_name = {known.name: known for known in runs[:8]} | {run.name: run}
    field = fields.place("deploy-run", run.name, list(by_name))
    st.radio(
        "Finished run",
        list(by_name),
        field.index or 0,
        format_func=lambda name: words.plain(by_name[name].title or name),
        captions=[words.plain(_run_words(known)) for known in by_name.values()],
        **fields.follow(field, "Finished run", partial(set_url_id, "run")),
    )


def _run_words(run: Run) -> str:
    found = reads.read(evaluation.read_evaluation, run.name, max_age_s=600.0).value
    tuned = (
        f"test loss {words.format_loss(found.tuned.loss)}, base {words.format_loss(found.base.loss)}" if found else ""
    )
    kept = f"{run.kept} of a run that is {run.state_word.lower()}" if run.kept else ""
    return " · ".join(filter(None, (run.model, run.dataset, tuned, kept, f"ended {words.moment(run.ended_at)}")))


def _choose_endpoint(run: Run, model_name: str) -> tuple[str, str]:
    """Return the endpoint's name and what is wrong with it, drawn beside the field."""
    taken: Sequence[EndpointView] = reads.read(endpoints.list_endpoints, max_age_s=5.0).value or ()
    mark = hashlib.sha256(f"{run.name}{len(taken)}".encode()).hexdigest()[:3]
    start = f"{endpoints.suggest_endpoint_name(model_name or 'model')[:28].rstrip('-')}-{mark}"
    name = st.text_input(
        "Endpoint name",
        value=start,
        key=f"endpoint-{run.name}",
        width=480,
        live=True,
        help="It is part of the address that callers use.",
    ).strip()
    problem, hint = _check_endpoint(name)
    if problem:
        st.markdown(f":material/error: {words.plain(problem)}")
        st.text(hint)
    else:
        st.caption(":material/check_circle: The name is free.")
    return name, problem


def _check_endpoint(name: str) -> tuple[str, str]:
    """Return what is wrong with a new endpoint's name, and what to do about it."""
    if problem := endpoints.check_endpoint_name(name):
        return (
            problem,
            f"Use '{endpoints.suggest_endpoint_name(name)}'. 3 to 32 letters, digits, hyphens; letter first.",
        )
    taken: Sequence[EndpointView] = reads.read(endpoints.list_endpoints, max_age_s=5.0).value or ()
    if any(known.name == name for known in taken):
        return f"There is an endpoint '{name}' already.", "Choose another name."
    return "", ""


def _find_running(run: Run) -> tuple[Mapping[str, int], str]:
    """Return the settings under which the run's model answers already, and the endpoint where."""
    known: Sequence[EndpointView] = reads.read(endpoints.list_endpoints, max_age_s=5.0).value or ()
    live = next((one for one in known if one.run == run.name and one.live and one.deployment), None)
    return (live.deployment.settings, live.name) if live and live.deployment else ({}, "")


def _draw_price(choice: Choice) -> None:
    if choice.size is None:
        return
    price = choice.price
    if choice.delete_at is None:
        st.text(f"{price.words} until you delete it.")
        return
    hours = (choice.delete_at - datetime.now(UTC)).total_seconds() / 3600
    until = words.moment(choice.delete_at)
    if price.per_hour is None:
        st.text(f"Until {until}: {price.words}.")
    else:
        amount = money(price.per_hour * hours, price.currency)
        st.text(f"Until {until}: about {amount}." + ("" if price.is_free else f" {not_a_bill(price.factor)}"))
    st.caption(
        f"Deleted at {until} by any Tunedeck or sweep that runs, an hour later if it is in use: a tag of the endpoint."
    )


def _draw_button(conn: Connection, choice: Choice, fields_of: str) -> None:
    off = choice.problem or ("Choose a size first." if choice.size is None else "")
    price = choice.price.words
    blocked, ticks = check_start(conn, Wanted(choice.price))
    off = off or blocked
    label = f"Deploy on Azure, {words.plain(price)}" if conn.costs_money else "Deploy"
    cap = say_cap("endpoint", key=fields_of, currency=choice.price.currency)
    end = f"It is deleted at {words.moment(choice.delete_at)}." if choice.delete_at else "It bills until you delete it."
    question = Confirm(
        title="Deploy an endpoint that costs money?",
        yes=label,
        keep="Keep it undeployed",
        lines=(f"{choice.endpoint} on {choice.machines}, {price}.", end, cap),
        ticks=(*ticks, *(("It is never deleted by itself",) if choice.delete_at is None else ())),
        icon="cloud_upload",
    )
    action(
        label,
        _deploy,
        choice.run,
        fields_of,
        conn.cloud.is_local,
        choice.price,
        key="deploy",
        type="primary",
        icon="cloud_upload",
        off=off,
        confirm=question if conn.costs_money else None,
        then=lambda begun: link("deploy", endpoint=begun.subject),
    )


def _deploy(run: Run, fields_of: str, local: bool, price: Price) -> Operation:
    """Deploy what the fields hold at the click: the button was drawn before the last of them was left.

    price: what the button said; a dearer one is not deployed.
    """
    if (picked := url_id("run")) and picked != run.name:
        raise Conflict(f"'{picked}' was chosen after this was drawn.", "Look at its names, and click again.")
    given = st.session_state
    endpoint = str(given[f"endpoint-{run.name}"]).strip()
    problem, hint = _check_endpoint(endpoint)
    if problem:
        raise BadInput(problem, hint)
    cap, ends_at_cap = read_cap(key=fields_of, currency=price.currency)
    begun = operations.start_deploy(
        ui().alias or "",
        run.name,
        str(given[f"model-{run.name}"]).strip(),
        endpoint,
        given["deploy-size"],
        end_after(given["deploy-life"]),
        idle_hours=HOURS[given.get("deploy-idle") or "Keep it"],
        instances=read_instances(key=fields_of),
        settings=read_settings(key=fields_of, local=local),
        agreed=to_agreed(price),
        cap=cap,
        ends_at_cap=ends_at_cap,
        checkpoint=_checkpoint_of(run),
    )
    reads.forget(operations.list_everything)
    return begun
