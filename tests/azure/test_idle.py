"""Idle is what was watched for all of the time and had nothing to do; only what was chosen for it ends by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from core.catalog.compute import get_compute
from core.operations import list_operations, start_create_compute, start_runner, start_scale_to_zero
from core.operations.idle import start_chosen, start_set_idle
from core.operations.ledger import Ledger
from core.operations.runner import Runner
from core.operations.sweep import sweep
from core.operations.sweep_command import list_due, sweep_once
from core.overview import describe_deletion
from core.serving import endpoints
from core.serving.request_counts import read_requests
from core.teardown.due import Timed, find_timed, write_tags
from core.teardown.idle import Idle, Use, choice_tags, find_chosen, find_idle, list_idle, read_choice
from tests.azure.serving import ENDPOINT, serve
from tests.azure.stand_in import SIZE, StandIn
from tests.azure.walking import Walk, walking
from tests.idle_past import ALIVE, WAITING, ask, make_old, measure
from tests.pages.apps import buttons, open_app, run_until, texts
from tests.waiting import wait_until

CLUSTER = "keeper"
SHOP = f"deployments/{ENDPOINT}/{endpoints.DEPLOYMENT_NAME}"
METRICS = r"Microsoft\.Insights/metrics"
EMPTY = '{"value": [{"name": {"value": "RequestsPerMinute"}, "timeseries": []}]}'
REFUSED = (
    '{"error": {"code": "AuthorizationFailed", "message": "The client does not have authorization to perform action '
    "'Microsoft.Insights/metrics/read'.\"}}"
)


@pytest.fixture
def walk(azure: StandIn) -> Iterator[Walk]:
    with walking(azure) as operator:
        yield operator
        azure.rules.clear()


@pytest.fixture
def shop(walk: Walk) -> Callable[[], Timed]:
    """An endpoint that was watched for 30 hours and had no request, without a choice; read anew when called."""
    serve(walk)
    if read_choice(timed := read(walk, "endpoint", ENDPOINT)).hours:  # an earlier test's
        choose(walk, timed, 0)
    home = walk.azure.workspace.home
    make_old(home)
    walk.azure.advance(60)  # what lists still show is from before
    measure(home, SHOP, **ALIVE)
    ask(home, ENDPOINT, ())
    return lambda: read(walk, "endpoint", ENDPOINT)


@pytest.fixture
def keeper(walk: Walk) -> Callable[[], Timed]:
    """A cluster that keeps a node, which was idle for 30 hours; read anew when called."""
    if not find_timed(walk.conn, "compute", CLUSTER) or not get_compute(walk.conn, CLUSTER).min_nodes:
        walk.put_cluster(CLUSTER, 1)
    home = walk.azure.workspace.home
    make_old(home)
    measure(home, f"computes/{CLUSTER}", **WAITING)
    return lambda: read(walk, "compute", CLUSTER)


def read(walk: Walk, kind: str, name: str) -> Timed:
    timed = find_timed(walk.conn, kind, name)
    assert timed is not None
    return timed


def choose(walk: Walk, timed: Timed, hours: int = 4) -> None:
    with walk.azure.hurried():
        wait_until(lambda: write_tags(walk.conn, read(walk, timed.kind, timed.name), choice_tags(timed, hours)))


def stop(runner: Runner) -> None:
    """Let a home's own runner rest, which sweeps too."""
    runner.stopping.set()
    wait_until(lambda: not runner.alive)


def judge(walk: Walk, timed: Timed) -> Idle:
    found = find_idle(walk.conn, timed, 4)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("asked", "use", "said"),
    [
        ((), Use.IDLE, f"{ENDPOINT} had no request for 1 d. Deleting it saves $3.67/h, $88.15 a day."),
        ((23.0, 6.5), Use.IDLE, f"{ENDPOINT} had no request for 6 h 2"),
        ((6.5, 1.0), Use.BUSY, "last in use at"),
    ],
)
def test_idle_lasts_since_the_last_request(
    walk: Walk, shop: Callable[[], Timed], asked: tuple[float, ...], use: Use, said: str
) -> None:
    ask(walk.azure.workspace.home, ENDPOINT, asked)
    found = judge(walk, shop())
    assert (found.use, said in found.words) == (use, True), found.words


@pytest.mark.parametrize(
    ("hours", "hole", "alive", "said"),
    [
        (30, (2.5, 2.0), 40.0, "reported nothing before"),
        (2, (0, 0), 40.0, "reported nothing before"),
        (30, (30, 1), 40.0, "reported nothing before"),
        (30, (0, 0), 0.0, "report"),  # gaps that Azure filled with 0
        (0, (1, -1), 40.0, "report"),
    ],
)
def test_what_was_not_watched_for_the_whole_time_is_unknown(
    walk: Walk, shop: Callable[[], Timed], hours: float, hole: tuple[float, float], alive: float, said: str
) -> None:
    measure(walk.azure.workspace.home, SHOP, hours, hole=hole, CpuMemoryUtilizationPercentage=alive)
    found = judge(walk, shop())
    assert (found.use, said in found.why) == (Use.UNKNOWN, True), found.words
    assert start_chosen(Ledger(walk.conn.home), walk.conn.alias, found) is None


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [(403, REFUSED, "Monitoring Reader"), (200, EMPTY, "nothing has ever been counted"), (503, "", "503")],
)
def test_a_metric_that_is_refused_or_has_no_series_is_unknown(
    walk: Walk, shop: Callable[[], Timed], status: int, body: str, said: str
) -> None:
    timed = shop()
    walk.azure.rules.add(METRICS, status, body=body, times=9)
    found = judge(walk, timed)
    assert (found.use, said in found.words) == (Use.UNKNOWN, True), found.words


def test_a_count_of_none_is_zero_only_while_the_deployment_is_watched(walk: Walk, shop: Callable[[], Timed]) -> None:
    shop()
    counted = read_requests(walk.conn, ENDPOINT, (endpoints.DEPLOYMENT_NAME,))
    assert (counted.requests, counted.minutes) == (0, 60)
    measure(walk.azure.workspace.home, SHOP, 1, hole=(9, 0.5), **ALIVE)
    assert 25 <= read_requests(walk.conn, ENDPOINT, (endpoints.DEPLOYMENT_NAME,)).minutes <= 32
    walk.azure.rules.add(rf"/deployments/.*{METRICS}", 200, body=EMPTY)
    unknown = read_requests(walk.conn, ENDPOINT, (endpoints.DEPLOYMENT_NAME,))
    assert (unknown.requests, "reports nothing either" in unknown.why) == (None, True)


def test_a_cluster_is_idle_while_each_minute_had_an_idle_node_and_none_at_work(
    walk: Walk, keeper: Callable[[], Timed]
) -> None:
    home, at = walk.azure.workspace.home, f"computes/{CLUSTER}"
    found = judge(walk, keeper())
    assert (
        found.words == f"{CLUSTER} had no job for 1 d and keeps 1 node. Zero minimum nodes saves $3.67/h, $88.15 a day."
    )
    measure(home, at, IdleNodes=1.0, ActiveNodes=0.2)
    assert judge(walk, keeper()).use is Use.BUSY
    measure(home, at, 30, hole=(3, 2), **WAITING)
    assert judge(walk, keeper()).use is Use.UNKNOWN
    measure(home, at, **WAITING)
    walk.finish(start_scale_to_zero(walk.conn.alias, CLUSTER))
    assert find_idle(walk.conn, keeper(), 4) is None


def test_what_was_not_chosen_is_proposed_and_never_ended(
    walk: Walk, shop: Callable[[], Timed], keeper: Callable[[], Timed]
) -> None:
    shop(), keeper()
    assert {each.use for each in list_idle(walk.conn)} == {Use.IDLE}
    assert sweep(Ledger(walk.conn.home), walk.conn, []) == []
    assert list_operations(active=True) == []


def test_a_copied_choice_is_told_of_and_not_obeyed(
    walk: Walk, shop: Callable[[], Timed], keeper: Callable[[], Timed]
) -> None:
    elsewhere = {**choice_tags(keeper(), 4), "tunedeck.idle_then": "delete"}
    with walk.azure.hurried():
        wait_until(lambda: write_tags(walk.conn, shop(), elsewhere))
    (line,) = sweep_once(Ledger(walk.conn.home), walk.conn, [])
    assert (line.failed, line.outcome) == (
        True,
        f"{ENDPOINT}: its choice for idle hours was written for another resource.",
    )
    assert endpoints.get_endpoint(walk.conn, ENDPOINT).live
    choose(walk, shop(), 0)


def test_a_request_after_the_sweeps_look_lets_the_endpoint_stay(walk: Walk, shop: Callable[[], Timed]) -> None:
    stop(start_runner(walk.azure.home))
    choose(walk, shop())
    idle = find_chosen(walk.conn, shop())
    assert idle is not None
    assert idle.use is Use.IDLE
    ask(walk.azure.workspace.home, ENDPOINT, [0.1])
    begun = start_chosen(Ledger(walk.conn.home), walk.conn.alias, idle)
    assert begun is not None
    start_runner(walk.azure.home)
    assert "It stays: last in use at" in walk.finish(begun).steps[0].detail
    assert endpoints.get_endpoint(walk.conn, ENDPOINT).live


@pytest.mark.slow
def test_a_cluster_is_made_with_its_choice(walk: Walk) -> None:
    walk.finish(start_create_compute(walk.conn.alias, "brief", SIZE, 1, 1, idle_hours=4))
    timed = read(walk, "compute", "brief")
    assert (read_choice(timed).hours, timed.delete_at) == (4, None)


def test_a_choice_is_seen_at_once_though_lists_still_show_what_was_before(
    walk: Walk, shop: Callable[[], Timed]
) -> None:
    choose(walk, shop(), 7)
    walk.azure.advance(60)

    def list_choices() -> list[int | None]:
        return [each.choice.hours for each in list_idle(walk.conn) if each.timed.name == ENDPOINT]

    assert list_choices() == [7]
    wait_until(lambda: write_tags(walk.conn, shop(), choice_tags(shop(), 4)))  # lists lag 8 s behind
    assert list_choices() == [4]


def test_what_cannot_be_read_is_unknown_beside_the_others(
    walk: Walk, shop: Callable[[], Timed], keeper: Callable[[], Timed]
) -> None:
    shop(), keeper()
    walk.azure.rules.add(rf"/onlineEndpoints/{ENDPOINT}\b", 403, body=REFUSED, times=9)
    found = {each.timed.name: each for each in list_idle(walk.conn)}
    assert (found[ENDPOINT].use, found[CLUSTER].use) == (Use.UNKNOWN, Use.IDLE)
    assert found[ENDPOINT].why.startswith(f"You may not read endpoint '{ENDPOINT}'")


@pytest.mark.slow
def test_teardown_proposes_and_takes_a_choice_and_overview_says_it(walk: Walk, shop: Callable[[], Timed]) -> None:
    shop()
    proposal = f"{ENDPOINT} had no request for 1 d. Deleting it saves"
    run_until(open_app(at=walk.conn.alias), lambda app: proposal in texts(app))
    teardown = open_app("teardown", at=walk.conn.alias)
    run_until(teardown, lambda app: proposal in texts(app))
    teardown.segmented_control(key=f"idle-hours-endpoint-{ENDPOINT}").set_value("4 h").run()
    ask(walk.azure.workspace.home, ENDPOINT, [1.0])  # or the home's own runner deletes it at once
    buttons(teardown)["Delete it after 4 h"].click().run()
    with walk.azure.hurried():
        run_until(teardown, lambda app: "Now: delete it after 4 h." in texts(app))
    assert read_choice(read(walk, "endpoint", ENDPOINT)).hours == 4
    # Of a change that began and ended between two runs the page saw nothing go on.
    walk.finish(start_set_idle(walk.conn.alias, "endpoint", ENDPOINT, 0))
    run_until(teardown, lambda app: "Now: delete it after 4 h." not in texts(app))


def test_an_endpoints_page_says_unknown_where_its_requests_are_not_known(walk: Walk, shop: Callable[[], Timed]) -> None:
    shop()
    walk.azure.rules.add(rf"/deployments/.*{METRICS}", 200, body=EMPTY, times=99)
    page = open_app("deploy", at=walk.conn.alias, endpoint=ENDPOINT)
    run_until(page, lambda app: "reports nothing either" in texts(app))
    assert {tile.label: tile.value for tile in page.metric if tile.label != "$/h"} == {
        "Requests": "unknown",
        "p50": "unknown",
    }


def test_what_was_chosen_is_ended_by_whoever_sweeps_with_a_receipt(
    walk: Walk, shop: Callable[[], Timed], keeper: Callable[[], Timed]
) -> None:
    stop(start_runner(walk.azure.home))
    choose(walk, shop())
    choose(walk, keeper(), 12)
    said = {line.timed.name: line.outcome for line in list_due(walk.conn, [])}
    assert said[ENDPOINT].startswith(f"{ENDPOINT} had no request for 1 d.")
    assert endpoints.get_endpoint(walk.conn, ENDPOINT).live
    with walk.azure.hurried():
        lines = {line.timed.name: line.outcome for line in sweep_once(Ledger(walk.conn.home), walk.conn, [])}
    assert lines[ENDPOINT].startswith("deleted, receipt R-"), lines
    assert lines[CLUSTER] == "It keeps no node any more"
    assert endpoints.find_endpoint(walk.conn, ENDPOINT) is None
    assert describe_deletion(walk.conn.alias, ENDPOINT).endswith(" UTC because it was idle.")
    assert get_compute(walk.conn, CLUSTER).min_nodes == 0
