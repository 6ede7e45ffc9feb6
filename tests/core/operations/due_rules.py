"""What may happen to a delete-at: it is set, copied, swept by two homes at once, on clocks that lie hours apart.

A colleague works beside them in the portal: what is his, and what merely carries another's tags, has to stay.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from core.azureml import tags
from core.errors import TunedeckError
from core.local.store import now_utc
from core.local.wire.request_log import append_line
from core.operations import Operation, start_set_delete_at
from core.operations.sweep import sweep
from core.teardown.due import Verdict
from tests.core.operations.world import Seat, World
from tests.waiting import wait_until

HOMES = st.sampled_from((0, 0, 0, 1))
KINDS = st.sampled_from(("endpoint", "compute"))
HOURS_PASS = st.sampled_from((0, 1, 2, 5))
HOURS = st.sampled_from((None, -1, 1, 4))
SWEEPS = 6  # of each home, after which nothing that is due is left
_API = {"api-version": "2024-10-01"}


class DueRules(RuleBasedStateMachine):
    """The part of a history that is about time. `begun`: operations with the home that carries them out."""

    world: World
    prefix: str
    begun: list[tuple[int, Operation]]

    @initialize(
        ahead=st.sampled_from((0, 0, -5, 7)),
        stands=st.sampled_from(((), ("compute",), ("endpoint",), ("compute", "endpoint"))),
        hours=st.sampled_from((None, 1, 4)),
    )
    def begin(self, ahead: int, stands: tuple[str, ...], hours: int | None) -> None:
        """The workspace's clock goes so many hours before this machine's, and something was made there before."""
        self.world.ahead = timedelta(hours=ahead)
        self.foreign: set[str] = set()
        for kind in stands:
            (self.create_compute if kind == "compute" else self.deploy)(0, hours)
        self.carry_all_out()

    @rule(home=HOMES, kind=KINDS, hours=HOURS, strict=st.booleans(), looks=st.integers(0, 3))
    def set_delete_at(self, home: int, kind: str, hours: int | None, strict: bool, looks: int) -> None:
        at = None if hours is None else self.world.now + timedelta(hours=hours)
        self.foreign.discard(self.name_of(kind))  # who sets one on what a colleague made means that one
        self.world.copies -= {each for each in self.world.copies if each[:2] == (kind, self.name_of(kind))}
        with self.world.seats[home].sitting():
            operation = start_set_delete_at("local", kind, self.name_of(kind), at, strict=strict)
        self.begun.append((home, operation))
        for _ in range(looks):
            self.world.seats[home].look(operation)

    @rule(home=HOMES, kind=KINDS, hours=st.integers(2, 9))
    def something_changes_while_tags_are_on_their_way(self, home: int, kind: str, hours: int) -> None:
        """A colleague changes the endpoint's traffic, or deletes the cluster, between the look at it and the write.

        The write of a cluster's tags makes it anew then: no request of Azure's would not. It is said.
        """
        self.world.fates.clear()
        self.world.races, before = 1, self.world.counted["clusters deleted on the way"]
        self.set_delete_at(home, kind, hours, strict=False, looks=3)
        if self.world.counted["clusters deleted on the way"] > before:
            error = self.world.seats[home].ledger.get(self.begun[-1][1].id).error
            assert error, "a cluster came back, and nobody said so"
            assert "stands there anew" in error.message, error
        self.world.races = 0

    @rule(home=HOMES, pass_h=HOURS_PASS, pauses=st.integers(1, 8), dies=st.booleans())
    def sweep_and_stop_on_the_way(self, home: int, pass_h: int, pauses: int, dies: bool) -> None:
        """Sweep, and go some writes of the ledger on; the sweeper may die there, between the ask and the receipt."""
        self.world.ahead += timedelta(hours=pass_h)
        swept = self.sweep_from(home)
        for operation in swept:
            self.world.seats[home].look(operation, pauses)
        if dies:
            self.world.counted["sweepers killed on the way"] += bool(swept)
            self.world.seats[home].kill()

    @rule(pass_h=HOURS_PASS)
    def two_sweep_at_once(self, pass_h: int) -> None:
        """Both homes see the same thing due, and each asks for its end before either is answered."""
        self.world.ahead += timedelta(hours=pass_h)
        self.world.fates.clear()
        found = {home: {each.change.subject: each for each in self.sweep_from(home)} for home in (0, 1)}
        for name in found[0].keys() & found[1].keys():
            pairs = [(self.world.seats[home], found[home][name]) for home in (0, 1)]
            with self.world.seats[0].sitting():
                met = self.world.carry_on_at_once(pairs) == 2
            self.world.counted["deletions that two asked for at once"] += met

    def sweep_from(self, home: int) -> list[Operation]:
        """Sweep from a home; return the deletions under way, which `begun` has from now on."""
        seat = self.world.seats[home]
        problems: list[TunedeckError] = []
        with seat.sitting():
            swept = sweep(seat.ledger, seat.conn, problems)
            assert not problems, problems
            for timed, operation in ((each.timed, each.operation) for each in swept):
                copied = (timed.kind, timed.name, self.created_at(timed.kind, timed.name)) in self.world.copies
                self.world.counted["copied tags told of"] += copied
                assert not copied or timed.verdict is Verdict.COPIED, f"{timed} is a copy, and {timed.verdict}"
                assert operation is None or timed.verdict is Verdict.DUE, f"{operation} of {timed} with {timed.tags}"
        operations = [each.operation for each in swept if each.operation]
        known = {each.id for _, each in self.begun}
        self.begun += [(home, each) for each in operations if each.id not in known]
        return [each for each in operations if not each.finished]

    # What a colleague does

    @rule(kind=KINDS)
    def copy_tags(self, kind: str) -> None:
        """A colleague makes a compute with the tags of something of ours, as an export of it does."""
        source = self.world.workspace.store.get(kind, self.name_of(kind))
        if source is not None:
            self.make_foreign(f"{self.prefix}-copy", source["tags"])

    @rule()
    def make_untagged(self) -> None:
        self.make_foreign(f"{self.prefix}-theirs", {"cost-centre": "7"})

    @rule()
    def make_anew_under_the_same_name(self) -> None:
        """A colleague deletes our cluster and makes one with the same name and tags; nobody was deleting it."""
        name, store = self.name_of("compute"), self.world.workspace.store
        found = store.get("compute", name)
        if not found or self.world.held or any(self.writes_compute(*each) for each in self.begun):
            return
        self.world.delete_compute(name)
        wait_until(lambda: _second() > found["created_at"][:19])  # what a mark knows; none of Azure's lives as short
        self.make_foreign(name, found["tags"])

    def writes_compute(self, home: int, operation: Operation) -> bool:
        """Tell whether an operation under way makes, changes or deletes our cluster."""
        change = operation.change
        things = {change.writes, *change.deletes}
        return ("compute", self.name_of("compute")) in things and not self.world.seats[home].ledger.get(
            operation.id
        ).finished

    @rule()
    def somebody_asks_the_endpoint(self) -> None:
        """It answered just now, as the workspace's clock goes."""
        folder = self.world.workspace.home.deployments / self.name_of("endpoint")
        with contextlib.suppress(FileNotFoundError):
            append_line(folder / "requests.log", f"{self.world.now.timestamp():.3f} blue 200 12.0")

    def make_foreign(self, name: str, told: dict[str, str]) -> None:
        scale = {"minNodeCount": 0, "maxNodeCount": 1, "nodeIdleTimeBeforeScaleDown": "PT2M"}
        cluster = {"computeType": "AmlCompute", "properties": {"vmSize": "local.cpu1", "scaleSettings": scale}}
        with self.world.colleague() as conn:
            body = {"location": "local", "tags": told, "properties": cluster}
            conn.http("PUT", f"{conn.workspace_path}/computes/{name}", params=_API, json=body)
        self.foreign.add(name)
        self.world.copies.add(("compute", name, self.created_at("compute", name)))

    def name_of(self, kind: str) -> str:
        return f"{self.prefix}-{'ep' if kind == 'endpoint' else 'cpu'}"

    def created_at(self, kind: str, name: str) -> str:
        return str((self.world.workspace.store.get(kind, name) or {}).get("created_at", ""))

    # What holds

    @invariant()
    def nobody_deletes_or_undoes_what_is_anothers(self) -> None:
        assert not self.world.wrong, self.world.wrong

    def sweep_to_the_end(self) -> None:
        """A day later both homes sweep until nothing is due; what has no delete-at of its own is still there."""
        self.world.races = 0
        self.world.ahead += timedelta(days=1)
        for _ in range(SWEEPS):
            if not any([self.sweep_from(home) for home in (0, 1)]):  # noqa: C419 - both sweep
                break
            self.carry_all_out()
        store = self.world.workspace.store
        things = [(kind, each) for kind in ("endpoint", "compute") for each in store.list(kind)]
        billing = [each for kind, each in things if each["tags"].get(tags.DELETE_AT) and self.is_bound(kind, each)]
        assert not billing, f"due, and bills on: {json.dumps(billing)}"
        left = {each["name"] for _, each in things}
        assert self.foreign - self.clicked_away() <= left, f"{self.foreign - left} went, and nobody said so"
        for seat in self.world.seats:
            self.check_receipts(seat)

    def check_receipts(self, seat: Seat) -> None:
        """Hold what receipts say against the workspace's own times: when each end was asked for, and now."""
        mine = {each.id for _, each in self.begun}
        for receipt in seat.ledger.list_receipts("local"):
            if receipt.operation not in mine:
                continue
            for gone in receipt.gone:
                asked = self.world.asked.get((gone.kind, gone.name))
                for at in filter(None, map(tags.parse_time, gone.checks)):
                    assert asked, f"{receipt} claims what nobody asked for"
                    assert asked[0] - timedelta(seconds=1) <= at <= self.world.now, f"{gone}: asked at {asked}"

    def is_bound(self, kind: str, document: Mapping[str, Any]) -> bool:
        """Tell whether a delete-at was written for what it stands on."""
        conn, collection = self.world.seats[0].conn, "onlineEndpoints" if kind == "endpoint" else "computes"
        made = tags.parse_time(document["created_at"])
        assert made
        mark = tags.mark(f"{conn.workspace_path}/{collection}/{document['name']}", made)
        return bool(document["tags"].get(tags.DELETE_AT_OF) == mark)

    def clicked_away(self) -> set[str]:
        """Return the names that an operator had deleted."""
        return {
            item.name for _, each in self.begun for item in getattr(each.change, "items", ()) if each.kind != "expire"
        }

    def carry_all_out(self) -> None:
        """See every operation end."""

    def create_compute(self, home: int, hours: int | None) -> None:
        """Begin to make our cluster, with a delete-at in so many hours."""

    def deploy(self, home: int, hours: int | None) -> None:
        """Begin to deploy to our endpoint, with a delete-at in so many hours."""

    def check_nothing_is_left(self) -> None:
        """See no program and no file of what is gone."""
        home = self.world.workspace.home
        wait_until(lambda: not [each for each in home.deployments.glob("*") if each.name.startswith(self.prefix)])
        assert not self.world.list_scorers(), self.world.list_scorers()


def _second() -> str:
    return now_utc()[:19]
