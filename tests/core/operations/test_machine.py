"""Whatever happens between a click and its end: one job a click, what was set is what runs, what is gone stays gone.

Histories are made by hypothesis: launches, deploys, new computes, teardowns and deletions in the portal, from two homes
into one workspace, each carried on in pieces between any two writes of the ledger, with dashboards killed or taken over
and requests lost, answered into nothing, or late. Faults and races are rules here, not harnesses of their own.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule, run_state_machine_as_test

from core.azureml import tags
from core.dataset import ChatDataset
from core.launch.drafts import create_draft, get_draft, save_draft
from core.launch.plan import LaunchPlan
from core.operations import (
    Operation,
    list_everything,
    start_cancel,
    start_create_compute,
    start_deploy,
    start_launch,
    start_teardown,
)
from core.teardown.plan import plan_teardown
from tests.chat_data import from_upload
from tests.core.operations.due_rules import HOMES, DueRules
from tests.core.operations.world import World
from tests.launching import plan_launch
from tests.soak import Soak, is_soak
from tests.tiny_model import NAME, build_tiny_model
from tests.waiting import wait_until

HISTORIES = 6 if is_soak() else 4
STEPS_OF_A_HISTORY = 25
LOOKS = 400  # after which an operation that has not ended waits for ever
PAUSES = st.sampled_from((1, 2, 3, 5, None))


class Prepared:
    """What all histories stand on: data and a completed run in each home, made once."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.number = 0
        self.datasets = [self._upload(seat) for seat in world.seats]
        self.run = self._train()

    def plan(self, home: int, rate: float, dataset: ChatDataset | None = None) -> LaunchPlan:
        seat = self.world.seats[home]
        with seat.sitting():
            draft = create_draft(
                "local",
                model=NAME,
                compute="this-machine",
                dataset=(dataset or self.datasets[home]).key,
                parameters={"max_steps": 1, "learning_rate": rate},
            )
            plan = plan_launch(seat.conn, draft)
        assert plan.ready, plan.failures
        return plan

    def _upload(self, seat: Any, word: str = "bell") -> ChatDataset:
        row = {"messages": [{"role": "user", "content": word}, {"role": "assistant", "content": "The keeper."}]}
        with seat.sitting():
            return from_upload(word, "\n".join([json.dumps(row)] * 10).encode())

    def _train(self) -> str:
        seat = self.world.seats[0]
        with seat.sitting():
            operation = start_launch(self.plan(0, 0.001))

        def ended() -> bool:
            seat.look(operation)
            return seat.ledger.get(operation.id).finished

        wait_until(ended)
        return operation.subject


PREPARED: list[Prepared] = []


class Histories(DueRules):
    """One history; its things have names of their own, so that the next one is not disturbed."""

    def __init__(self) -> None:
        super().__init__()
        self.prepared = PREPARED[0]
        self.world = self.prepared.world
        self.prepared.number += 1
        self.prefix = f"h{self.prepared.number}"
        self.begun: list[tuple[int, Operation]] = []
        self.expected: dict[str, LaunchPlan] = {}
        self.torn: list[tuple[int, Operation, tuple[str, ...]]] = []
        self.world.begin_history()
        self.world.watched = True

    # What an operator does

    @rule(home=HOMES, rate=st.sampled_from((0.001, 0.002, 0.003)), clicks=st.integers(1, 2), edited=st.booleans())
    def launch(self, home: int, rate: float, clicks: int, edited: bool) -> None:
        """Click Start once or twice; another tab may have changed the set-up since it was shown."""
        plan = self.prepared.plan(home, rate)
        with self.world.seats[home].sitting():
            if edited:
                save_draft(plan.draft, parameters={**plan.draft.parameters, "learning_rate": 10 * rate})
            operations = {start_launch(plan).id: start_launch(plan) for _ in range(clicks)}
            (operation,) = operations.values()
            assert get_draft(plan.draft.id).launched == ("" if edited else operation.id)
        assert operation.subject not in self.expected
        self.expected[operation.subject] = plan
        self.begun.append((home, operation))

    @rule(home=HOMES, hours=st.sampled_from((None, 2)))
    def deploy(self, home: int, hours: int | None) -> None:
        until = self.world.now + timedelta(hours=hours) if hours else None
        with self.world.seats[home].sitting():
            endpoint = f"{self.prefix}-ep"
            operation = start_deploy("local", self.prepared.run, f"{self.prefix}-m", endpoint, "local.cpu1", until)
        self.begun.append((home, operation))

    @rule(home=HOMES, hours=st.sampled_from((None, 2)))
    def create_compute(self, home: int, hours: int | None) -> None:
        until = self.world.now + timedelta(hours=hours) if hours else None
        with self.world.seats[home].sitting():
            operation = start_create_compute("local", f"{self.prefix}-cpu", "local.cpu1", delete_at=until)
        self.begun.append((home, operation))

    @rule(home=HOMES)
    def cancel(self, home: int) -> None:
        launches = [each for place, each in self.begun if place == home and each.kind == "launch"]
        if launches:
            with self.world.seats[home].sitting():
                self.begun.append((home, start_cancel("local", launches[-1].subject)))

    @rule(home=HOMES, alone=st.sampled_from((0, 1, 4, 20)))
    def tear_down(self, home: int, alone: int) -> None:
        """Press the button; the teardown is so many looks ahead of all that it meets on its way."""
        seat = self.world.seats[home]
        with seat.sitting():
            found = list_everything(seat.conn)
            keys = tuple(
                item.key
                for item in found.items
                if item.kind in ("endpoint", "compute") and item.name == self.name_of(item.kind)
            )
            if keys:
                operation = start_teardown(plan_teardown(seat.conn, found, keys))
                self.begun.append((home, operation))
                self.torn.append((home, operation, keys))
                for _ in range(alone):
                    seat.look(operation)

    @rule()
    def delete_in_the_portal(self) -> None:
        self.foreign.discard(self.name_of("compute"))
        with self.world.seats[0].sitting(), self.world.colleague() as conn:
            try:
                conn.workspace.online_endpoints.begin_delete(f"{self.prefix}-ep")
                conn.workspace.compute.begin_delete(f"{self.prefix}-cpu")
            except HttpResponseError:
                return  # it is not there
        wait_until(lambda: self.world.is_gone("endpoint", f"{self.prefix}-ep"))

    # What happens

    @rule(pauses=st.lists(PAUSES, min_size=1, max_size=6), which=st.integers(0, 3))
    def look_at_one(self, pauses: list[int | None], which: int) -> None:
        for each in pauses:
            if unfinished := self._list_unfinished():
                home, operation = unfinished[which % len(unfinished)]
                self.world.seats[home].look(operation, each)

    @rule(times=st.integers(1, 4))
    def look_at_all(self, times: int) -> None:
        for home, operation in self._list_unfinished() * times:
            self.world.seats[home].look(operation)

    def _list_unfinished(self) -> list[tuple[int, Operation]]:
        found = [(home, self.world.seats[home].ledger.get(operation.id)) for home, operation in self.begun]
        return [(home, operation) for home, operation in found if not operation.finished]

    @rule(fate=st.sampled_from(("lost request", "lost answer", "held")))
    def next_request(self, fate: str) -> None:
        self.world.fates.append(fate)

    @rule(home=HOMES)
    def kill(self, home: int) -> None:
        self.world.seats[home].kill()

    @rule(home=HOMES)
    def take_over(self, home: int) -> None:
        self.world.seats[home].take_over()

    # What holds

    @invariant()
    def one_job_a_click_and_its_body_is_the_recipe(self) -> None:
        for job, plan in self.expected.items():
            puts = self.world.puts_of(job)
            assert len([put for put in puts if put.made]) <= 1, job
            for put in puts:
                (node,) = put.body["properties"]["jobs"].values()
                assert node["inputs"]["learning_rate"]["value"] == str(plan.recipe["learning_rate"])
                assert f"/data/{plan.dataset.name}-train/" in node["inputs"]["train_file_path"]["uri"]

    @invariant()
    def what_was_confirmed_is_never_sent_again(self) -> None:
        again = {what: count for what, count in self.world.made().items() if count > 1}
        assert not again, self._tell(next(iter(again))[0])

    def _tell(self, operation_id: str) -> str:
        """Return what became of an operation, and every write of it that arrived."""
        lines = [
            f"home {home}: {now.number} {now.title} {now.state} {dict(now.facts)} {now.error} {now.steps}"
            for home, each in self.begun
            if (now := self.world.seats[home].ledger.get(each.id)).id == operation_id
        ]
        writes = [
            f"{each.method} {each.path.rsplit('/', 2)[1:]} of {each.operation}, made {each.made}, heard {each.heard}"
            for each in self.world.arrived
        ]
        return "\n".join(["", *lines, *writes])

    def teardown(self) -> None:
        """The end of a history: all dashboards start anew, nothing is lost any more, and every operation has to end."""
        self.world.fates.clear()
        for seat in self.world.seats:
            seat.kill()
        self.world.let_held_arrive(all_of_them=True)
        for home, operation in list(self.begun):
            if operation.kind == "launch":
                with self.world.seats[home].sitting():
                    self.begun.append((home, start_cancel("local", operation.subject)))
        self.carry_all_out()
        self.one_job_a_click_and_its_body_is_the_recipe()
        self.what_was_confirmed_is_never_sent_again()
        for home, operation, keys in self.torn:
            self._check_gone(home, operation, keys)
        self.sweep_to_the_end()
        self.nobody_deletes_or_undoes_what_is_anothers()
        self._clean_up()
        self.check_nothing_is_left()

    def carry_all_out(self) -> None:
        """See every operation end. Looks are counted, not seconds, and only those at a workspace that is at rest."""
        looks: Counter[str] = Counter()
        while unfinished := self._list_unfinished():
            rests = self.world.rests()
            for home, operation in unfinished:
                looks[operation.id] += rests
                assert looks[operation.id] < LOOKS, f"{operation.title} waits for ever: {operation.steps}"
                self.world.seats[home].look(operation)
            self.world.wait_a_moment()

    def _check_gone(self, home: int, operation: Operation, keys: tuple[str, ...]) -> None:
        """Hold a receipt against the workspace: what it says is gone is there only where it was wanted anew since."""
        seat = self.world.seats[home]
        ended = seat.ledger.get(operation.id)
        if ended.state != "done":
            return
        newer = {
            each.id for place, each in self.begun if place != home or seat.ledger.get(each.id).number > ended.number
        }
        store = self.world.workspace.store
        for key in keys:
            kind, name = key.split(":")[:2]
            found = store.get(kind, name)
            maker = (found or {}).get("tags", {}).get(tags.OPERATION)
            assert found is None or found.get("state") == "Deleting" or maker in newer, f"{key} is back: {found}"

    def _clean_up(self) -> None:
        self.world.watched = False
        with self.world.seats[0].sitting():
            conn = self.world.seats[0].conn
            for endpoint in self.world.workspace.store.list("endpoint"):
                conn.workspace.online_endpoints.begin_delete(endpoint["name"])
            for compute in self.world.workspace.store.list("compute"):
                if compute["name"] != "this-machine":
                    conn.workspace.compute.begin_delete(compute["name"])


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prepared]:
    base_models = tmp_path_factory.mktemp("base-models")
    build_tiny_model(base_models)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNEDECK_BASE_MODELS", str(base_models))
        patch.setenv("TUNEDECK_QUOTA_CORES", "64")
        world = World(tmp_path_factory.mktemp("homes"), base_models).start()
        try:
            PREPARED.append(Prepared(world))
            yield PREPARED[0]
        finally:
            PREPARED.clear()
            world.stop()


@pytest.mark.soak
def test_whatever_happens_nothing_is_sent_twice_mixed_up_or_comes_back(prepared: Prepared) -> None:
    """Some ten seconds: each history is carried to the end of all that it began."""
    with Soak("histories", quick=1, long=100, what=f"histories of operations, {HISTORIES} a round") as soak:
        for _, chance in soak.rounds():
            machine = type("Round", (Histories,), {})
            run_state_machine_as_test(
                seed(chance.randrange(2**32))(machine) if is_soak() else machine,
                settings=settings(
                    max_examples=HISTORIES,
                    stateful_step_count=STEPS_OF_A_HISTORY,
                    deadline=None,
                    database=None,
                    derandomize=not is_soak(),  # `make test` has the same histories each time
                    phases=(Phase.generate,),
                    suppress_health_check=list(HealthCheck),
                ),
            )
            soak.add("histories", HISTORIES)
            for what, times in prepared.world.counted.items():
                soak.add(what, times)
            prepared.world.counted.clear()
