"""Caps are tags: two homes see the same, and what is about to bill is held against them right before it is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from core.azureml import tags
from core.azureml.connection import Connection, connect
from core.azureml.reader import reader_for
from core.catalog.compute import get_compute
from core.catalog.prices import Price
from core.errors import ServiceRefused
from core.home import Home
from core.launch.drafts import create_draft
from core.launch.group import plan_group
from core.launch.preflight import read_facts
from core.operations import (
    Operation,
    get_operation,
    list_operations,
    start_create_compute,
    start_launch,
    start_redeploy,
    start_runner,
    start_set_cap,
    start_set_limits,
)
from core.operations.ledger import Ledger
from core.operations.sweep_command import Line, sweep_once
from core.runs import history, jobs
from core.runs.evaluation import evaluation_name
from core.serving import endpoints
from core.teardown.caps import Cap, Wanted, find_capped, read_limits, read_standing, to_agreed, write_limits
from core.teardown.due import find_timed, list_timed, write_tags
from pages.parts.kit.links import PAGES
from tests.azure.behind import WORKSPACE_PATH
from tests.azure.prices import PER_HOUR
from tests.azure.serving import ENDPOINT, serve
from tests.azure.stand_in import SIZE, StandIn
from tests.azure.walking import Walk, put_cluster, walking
from tests.chat_data import from_upload
from tests.pages.apps import buttons, open_app, run_until, texts
from tests.tiny_model import NAME, make_conversations, to_jsonl
from tests.waiting import wait_until

PRICE = Price(PER_HOUR[SIZE])
NO_CAPS = {tags.CAP_HOUR: "", tags.CAP_DAY: "", tags.CAP_BY: ""}
TAGS_PATH = f"{WORKSPACE_PATH}/providers/Microsoft.Resources/tags/default"
API = "2024-10-01"  # with which an endpoint is read for its cap
REFUSED = '{"error": {"code": "AuthorizationFailed", "message": "does not have authorization to perform it"}}'


@pytest.fixture
def walk(azure: StandIn) -> Iterator[Walk]:
    with walking(azure) as operator:
        yield operator
        azure.rules.clear()
        write_limits(operator.conn, NO_CAPS)
        for timed in list_timed(operator.conn):
            if timed.kind == "compute":
                operator.conn.http(
                    "DELETE", f"{operator.conn.workspace_path}/computes/{timed.name}?api-version=2024-10-01"
                )
        with azure.hurried():
            wait_until(lambda: all(timed.kind == "endpoint" for timed in list_timed(operator.conn)))


@pytest.fixture
def elsewhere(azure: StandIn, tmp_path: Path) -> Connection:
    """The same workspace, from a home that knows nothing."""
    return connect(azure.settings(), home=Home(tmp_path / "elsewhere").create())


def rest(walk: Walk) -> Callable[[], None]:
    """Let nobody carry operations out until what is returned is called."""
    runner = start_runner(walk.azure.home)
    runner.stopping.set()
    wait_until(lambda: not runner.alive)
    return lambda: start_runner(walk.azure.home) and None


def create(walk: Walk, name: str = "gpu", nodes: int = 1, agreed: str = "") -> Operation:
    return start_create_compute(walk.conn.alias, name, SIZE, nodes, max(1, nodes), agreed=agreed)


def puts(walk: Walk, name: str) -> int:
    return len(walk.azure.rules.asked(rf"^PUT .*/computes/{name}\?"))


def test_another_home_sees_the_caps_and_who_set_them(walk: Walk, elsewhere: Connection) -> None:
    others = {"cost-centre": "42"}
    write_limits(walk.conn, others)
    walk.finish(start_set_limits(walk.conn.alias, walk.conn.settings.workspace_name, Cap(3.5), Cap(40.0)))
    limits = read_limits(elsewhere)
    assert (limits.hour, limits.day, limits.by, limits.problems) == (Cap(3.5), Cap(40.0), "ada@contoso.com", ())
    body = elsewhere.http("GET", elsewhere.workspace_path, params={"api-version": "2024-10-01"}).json()
    assert body["tags"]["cost-centre"] == "42", "another's tag stays"
    walk.finish(start_set_limits(walk.conn.alias, walk.conn.settings.workspace_name, None, None))
    assert read_limits(elsewhere).hour is None


def test_who_may_not_write_the_tags_is_told_and_goes_on_reading(walk: Walk) -> None:
    write_limits(walk.conn, {tags.CAP_HOUR: "3.5 USD"})
    walk.azure.rules.add(rf"PATCH .*{TAGS_PATH}", 403, body=REFUSED)
    failed = walk.finish(start_set_limits(walk.conn.alias, "ml-dev", Cap(99.0), None), "failed")
    assert failed.error is not None
    assert failed.error.message == "You may not change this workspace's tags; ask its owner."
    assert "Tag Contributor" in failed.error.hint
    assert read_limits(walk.conn).hour == Cap(3.5)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"operation": "Add", "properties": {"tags": {"a": "b"}}}, "InvalidTagOperation"),
        ({"operation": "Merge", "properties": {"tags": {"a/b": "c"}}}, "InvalidTagName"),
        ({"operation": "Merge", "properties": {"tags": {"a": "b" * 257}}}, "InvalidTagValueLength"),
        ({"operation": "Merge", "properties": {"tags": {f"n{n}": "" for n in range(51)}}}, "InvalidTagCount"),
    ],
)
def test_the_workspace_refuses_tags_that_azure_refuses(conn: Connection, body: Any, code: str) -> None:
    with pytest.raises(ServiceRefused) as refused:
        conn.http("PATCH", f"{TAGS_PATH}?api-version=2021-04-01", json=body)
    assert code in refused.value.detail


def test_what_another_home_starts_between_click_and_sending_counts(walk: Walk, elsewhere: Connection) -> None:
    write_limits(elsewhere, {tags.CAP_HOUR: "4 USD"})
    go_on = rest(walk)
    assert not read_standing(walk.conn).check(Wanted(PRICE)).blocked
    asked = create(walk, agreed=to_agreed(PRICE))
    put_cluster(elsewhere, "theirs", 1)
    go_on()
    failed = walk.finish(asked, "failed")
    assert failed.error is not None
    assert failed.error.message == (
        "With this, $7.35/h would bill: more than this workspace's cap of $4.00/h, which all who use it see. "
        "Now it is $3.67/h. Nothing was sent."
    )
    assert failed.error.hint == "Raise the cap, or delete theirs ($3.67/h)."
    assert puts(walk, "gpu") == 0


def test_two_clicks_at_once_do_not_share_what_is_left_of_a_cap(walk: Walk) -> None:
    write_limits(walk.conn, {tags.CAP_HOUR: "4 USD", tags.CAP_DAY: "0.01 USD"})  # a day's only warns
    walk.azure.rules.add(r"PUT .*/computes/", delay_s=0.3)  # the second looks before the first is there
    both = [create(walk, name) for name in ("gpu-a", "gpu-b")]
    with walk.azure.hurried():
        wait_until(lambda: all(get_operation(each.id).finished for each in both))
    ended = [get_operation(each.id) for each in both]
    assert sorted(each.state for each in ended) == ["done", "failed"]
    assert puts(walk, "gpu-a") + puts(walk, "gpu-b") == 1


def test_a_group_is_held_against_the_cap_by_all_the_nodes_that_it_takes_at_once(walk: Walk) -> None:
    walk.finish(start_create_compute(walk.conn.alias, "gpu-3", SIZE, 0, 3))
    write_limits(walk.conn, {tags.CAP_HOUR: "8 USD"})
    data = from_upload("kettle", to_jsonl(make_conversations(12)).encode())
    draft = create_draft(walk.conn.alias, model=NAME, compute="gpu-3", dataset=data.key)
    facts = read_facts(walk.conn, draft.model, "1", "gpu-3", draft.dataset)
    two, four = (plan_group(facts, draft, {"lora_r": ranks}) for ranks in ((4, 8), (4, 8, 16, 32)))
    assert (two.at_once, four.at_once) == (2, 3)
    assert (two.nodes, four.nodes) == (2, 3)
    standing = read_standing(walk.conn)
    said = [
        standing.check(Wanted(PRICE.times(group.nodes), compute="gpu-3", nodes=group.nodes)) for group in (two, four)
    ]
    assert not said[0].blocked
    assert "With this, $11.02/h would bill" in said[1].blocked


def test_nothing_is_sent_at_a_higher_price_than_was_shown_at_the_click(walk: Walk) -> None:
    failed = walk.finish(create(walk, "dear", agreed="3.5 USD"), "failed")
    assert failed.error is not None
    assert failed.error.message == (
        "An hour of it costs $3.67 now; $3.50 was agreed to at the click. Nothing was sent."
    )
    assert puts(walk, "dear") == 0


def test_what_nobody_accepted_does_not_start_while_a_cap_cannot_be_held(walk: Walk) -> None:
    write_limits(walk.conn, {tags.CAP_HOUR: "4 EUR"})
    failed = walk.finish(create(walk, "asked"), "failed")
    assert failed.error is not None
    assert "not all prices are in EUR" in failed.error.message


@pytest.mark.slow
def test_a_limit_that_is_set_on_teardown_switches_the_button_of_launch_off(walk: Walk) -> None:
    walk.finish(create(walk, nodes=0))
    draft = walk.plan().draft
    app = open_app("teardown", at=walk.conn.alias)
    run_until(app, lambda app: "Set the limits" in buttons(app))
    app.number_input(key="limit-hour").set_value(3.0)
    buttons(app)["Set the limits"].click()
    run_until(app.run(), lambda app: "Set by ada" in texts(app))
    assert read_limits(walk.conn).hour == Cap(3.0)
    app = open_app("launch", at=walk.conn.alias, draft=draft.id)
    run_until(app, lambda app: "With this, $3.67/h would bill" in texts(app))
    (start,) = (button for label, button in buttons(app).items() if label.startswith("Start run on Azure"))
    assert start.disabled


@pytest.mark.slow
def test_a_cap_that_was_typed_for_a_start_outlives_a_look_at_another_page_and_the_question_names_it(walk: Walk) -> None:
    walk.finish(create(walk, nodes=0))
    draft = walk.plan().draft
    app = open_app("launch", at=walk.conn.alias, draft=draft.id)
    cap, ends = f"launch-{draft.id}-amount", f"launch-{draft.id}-ends"
    run_until(app, lambda app: any(each.key == cap for each in app.number_input))
    app.number_input(key=cap).set_value(20.0)
    app.toggle(key=ends).set_value(True)
    app.run()
    for page in ("data", "launch"):
        app.switch_page(PAGES[page].script)
        app.query_params["at"], app.query_params["draft"] = walk.conn.alias, draft.id
        app.run()
    run_until(app, lambda app: any(each.key == cap for each in app.number_input))
    assert (app.number_input(key=cap).value, app.toggle(key=ends).value) == (20.0, True)

    def find_start(app: AppTest) -> Any:
        return next((each for label, each in buttons(app).items() if label.startswith("Start run on Azure")), None)

    run_until(app, lambda app: (found := find_start(app)) and not found.disabled)
    find_start(app).click()
    run_until(app.run(), lambda app: "Its cap is $20.00: it is cancelled when that is reached." in texts(app))


def swept(walk: Walk) -> dict[str, Line]:
    with walk.azure.hurried():
        lines = list(sweep_once(Ledger(walk.azure.home), walk.conn, []))
    return {line.timed.name: line for line in lines if tags.CAP in line.timed.tags}


def trains(walk: Walk, name: str) -> bool:
    run = jobs.get_run(walk.conn, name) if jobs.has_job(walk.conn, name) else None
    return bool(run and run.progress and run.progress.step)


@pytest.mark.slow
def test_a_run_is_cancelled_at_its_cap_only_where_that_was_chosen_for_it(walk: Walk) -> None:
    """Trains for some seconds, until it is ended; a second of it costs $0.001."""
    walk.finish(start_create_compute(walk.conn.alias, "gpu", SIZE))
    name = start_launch(walk.plan(max_steps=100_000), cap="900 USD", ends_at_cap=True).subject
    with walk.azure.hurried():
        wait_until(lambda: trains(walk, name))
    assert tags_of(walk, name) == ("900 USD", f"stop {name}")
    walk.finish(start_set_cap(walk.conn.alias, "run", name, Cap(0.0005), ends=False))
    assert tags_of(walk, name) == ("0.0005 USD", "warn")
    rest(walk)
    wait_until(lambda: (found := find_capped(walk.conn, "run", name)) and found.reached.reached)
    for then, outcome in (
        ("warn", "Its cap of <$0.01 is reached: it came to about <$0.01."),
        ("stop another", "Its end was chosen for another: it only warns."),
        (f"stop {name}", "Cancelled"),
    ):
        assert not jobs.get_run(walk.conn, name).finished
        history.write(walk.conn, name, {tags.CAP_THEN: then})
        assert swept(walk)[name].words.endswith(outcome)


def tags_of(walk: Walk, run: str) -> tuple[str, str]:
    record = history.find_record(walk.conn, run)
    assert record is not None
    return record.tags[tags.CAP], record.tags[tags.CAP_THEN]


def is_tagged(walk: Walk, wanted: Mapping[str, str]) -> bool:
    """Write the endpoint's tags; True once the list, which may lag behind, shows them."""
    found = find_timed(walk.conn, "endpoint", ENDPOINT)
    (listed,) = (each for each in list_timed(walk.conn) if each.kind == "endpoint")
    return found is not None and write_tags(walk.conn, found, wanted) and wanted.items() <= listed.tags.items()


@pytest.mark.slow
def test_the_fields_of_a_cap_show_what_it_is_before_they_can_be_sent(walk: Walk) -> None:
    serve(walk)
    walk.finish(start_set_cap(walk.conn.alias, "endpoint", ENDPOINT, Cap(20.0), ends=False))
    walk.azure.rules.add(rf"GET .*/onlineEndpoints/{ENDPOINT}\?api-version={API}$", delay_s=1.5, times=2)
    app = open_app("deploy", at=walk.conn.alias, endpoint=ENDPOINT)
    run_until(app, lambda app: "Its cap is being read." in texts(app))
    assert "Set the cap" not in buttons(app)
    run_until(app, lambda app: "Set the cap" in buttons(app))
    (amount,) = (each for each in app.number_input if each.label.startswith("The most it may cost"))
    (ends,) = (each for each in app.toggle if each.label == "Delete it then")
    assert (amount.value, ends.value) == (20.0, False)
    ends.set_value(True)
    buttons(app)["Set the cap"].click()
    app.run()
    with walk.azure.hurried():
        wait_until(lambda: not list_operations(walk.conn.alias, active=True))
    timed = find_timed(walk.conn, "endpoint", ENDPOINT)
    assert timed is not None
    assert (timed.tags[tags.CAP], timed.tags[tags.CAP_THEN]) == ("20 USD", f"stop {timed.mark}")
    run_until(app, lambda app: [each.value for each in app.toggle if each.label == "Delete it then"] == [True])


@pytest.mark.slow
def test_a_cap_and_limits_that_cannot_be_read_say_why_instead_of_going_on_reading(walk: Walk) -> None:
    serve(walk)
    walk.finish(start_set_cap(walk.conn.alias, "endpoint", ENDPOINT, Cap(20.0), ends=False))
    walk.azure.rules.add(rf"GET .*/onlineEndpoints/{ENDPOINT}\?api-version={API}$", 403, body=REFUSED, times=99)
    app = open_app("deploy", at=walk.conn.alias, endpoint=ENDPOINT)
    run_until(app, lambda app: "You may not" in texts(app) and "Its cap is being read." not in texts(app))
    assert "Set the cap" not in buttons(app)
    walk.azure.rules.clear()
    walk.azure.rules.add(rf"GET .*{WORKSPACE_PATH}\?", 403, body=REFUSED, times=99)
    app = open_app("teardown", at=walk.conn.alias)
    run_until(app, lambda app: "You may not" in texts(app))


@pytest.mark.slow
def test_an_evaluation_is_held_against_the_cap_and_can_be_asked_for_once_there_is_room(walk: Walk) -> None:
    """Takes 10 s: it trains a tiny model and waits for its node to go."""
    walk.finish(start_create_compute(walk.conn.alias, "gpu", SIZE))
    launch = start_launch(walk.plan(max_steps=2), agreed=to_agreed(PRICE))
    with walk.azure.hurried():
        wait_until(lambda: jobs.has_job(walk.conn, launch.subject))
        go_on = rest(walk)
        wait_until(lambda: jobs.get_run(walk.conn, launch.subject).completed)
        wait_until(lambda: not get_compute(walk.conn, "gpu").nodes)
    write_limits(walk.conn, {tags.CAP_HOUR: "2 USD"})
    go_on()
    failed = walk.finish(launch, "failed")
    assert failed.error is not None
    assert "would bill: more than this workspace's cap of $2.00/h" in failed.error.message
    assert not jobs.has_job(walk.conn, evaluation_name(launch.subject))
    app = open_app("runs", at=walk.conn.alias, run=launch.subject, view="Evaluation")
    run_until(app, lambda app: "There is no evaluation. With this, " in texts(app))
    write_limits(walk.conn, NO_CAPS)
    buttons(app)["Try again"].click().run()
    walk.finish(launch)
    assert jobs.has_job(walk.conn, evaluation_name(launch.subject))


@pytest.mark.slow
def test_a_limit_that_another_home_lowers_is_not_raised_again_by_a_field(walk: Walk, elsewhere: Connection) -> None:
    write_limits(walk.conn, {tags.CAP_HOUR: "10 USD"})
    app = open_app("teardown", at=walk.conn.alias)
    run_until(app, lambda app: "Set the limits" in buttons(app))
    write_limits(elsewhere, {tags.CAP_HOUR: "5 USD"})
    reader_for(walk.conn).drop()
    run_until(app, lambda app: app.number_input[0].value == 5.0)
    app.number_input[1].set_value(40.0)
    buttons(app)["Set the limits"].click()
    run_until(app.run(), lambda _app: read_limits(walk.conn).day == Cap(40.0))
    assert read_limits(walk.conn).hour == Cap(5.0)


def test_an_endpoint_is_deleted_at_its_cap_only_where_that_was_chosen_for_it(walk: Walk) -> None:
    """A second of it costs $0.001."""
    serve(walk)
    walk.finish(start_set_cap(walk.conn.alias, "endpoint", ENDPOINT, Cap(0.0005), ends=False))
    again = start_redeploy(walk.conn.alias, endpoints.get_endpoint(walk.conn, ENDPOINT), SIZE, 2, {})
    refused = walk.finish(again, "failed").error
    assert refused is not None
    assert refused.message.startswith(f"Nothing more is started on '{ENDPOINT}'. Its cap of <$0.01 is reached")
    rest(walk)
    timed = find_timed(walk.conn, "endpoint", ENDPOINT)
    assert timed is not None
    for then, outcome in (
        ("stop another", "Its end was chosen for another: it only warns."),
        (f"stop {timed.mark}", "deleted, receipt R-0001"),
    ):
        with walk.azure.hurried():
            wait_until(lambda wanted={tags.CAP_THEN: then}: is_tagged(walk, wanted))
        line = swept(walk)[ENDPOINT]
        assert line.words.endswith(outcome), line.words
    assert endpoints.find_endpoint(walk.conn, ENDPOINT) is None
