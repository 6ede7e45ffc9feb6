"""What the menu, the strip and the overview say about a workspace, put together from snapshots."""

from __future__ import annotations

from dataclasses import dataclass

from core import operations, overview
from core.azureml.connection import Connection
from core.azureml.reader import Snapshot
from core.errors import NotFound
from core.launch import drafts
from core.launch.drafts import Draft
from core.operations import Operation
from core.overview import NextAction, StripView
from core.runs.index import RunList
from core.runs.states import Run
from core.serving import endpoints
from core.serving.endpoints import EndpointView
from core.teardown import inventory
from core.teardown.inventory import Inventory
from pages.parts.kit import reads
from pages.parts.kit.state import ui, url_id


@dataclass(frozen=True)
class Summary:
    """One look at the workspace of this session; never waited for.

    busy: the ledger has something under way. open_run: the run whose page is open. faults: what somebody switched on in
    the local workspace, in words.
    """

    connection: Connection | None
    runs: Snapshot[RunList]
    endpoints: Snapshot[list[EndpointView]]
    inventory: Snapshot[Inventory]
    draft: Draft | None
    busy: bool
    open_run: Run | None = None
    faults: tuple[str, ...] = ()

    @property
    def active_runs(self) -> list[Run]:
        """Runs that have not ended, that which trains first, with their progress."""
        return [run for run in self.runs.value or [] if not run.finished]

    @property
    def current_run(self) -> Run | None:
        """The run that is open, else the one that trains."""
        return self.open_run or overview.find_current(self.active_runs)

    @property
    def live_endpoints(self) -> list[EndpointView]:
        """Endpoints that answer."""
        return [endpoint for endpoint in self.endpoints.value or [] if endpoint.live]

    @property
    def answers(self) -> bool:
        """Whether the workspace answered the last time it was asked."""
        return self.runs.has_value and self.runs.error is None

    @property
    def complete(self) -> bool:
        """Whether everything was read at least once."""
        return self.runs.has_value and self.endpoints.has_value and self.inventory.has_value

    @property
    def moving(self) -> bool:
        """Whether something runs, waits or bills, so that another look in two seconds is worth it."""
        view = self.strip()
        return self.busy or bool(self.active_runs) or bool(view and view.active)

    def strip(self) -> StripView | None:
        """Return what the strip says, None before everything was read."""
        if self.connection is None or self.endpoints.value is None or self.inventory.value is None:
            return None
        return overview.strip(self.runs.value or [], self.endpoints.value, self.inventory.value, self.open_run)

    def next_action(self) -> NextAction | None:
        """Return the one thing to do next, None before everything was read."""
        if self.connection is None or self.endpoints.value is None or self.inventory.value is None:
            return None
        return overview.next_action(
            self.runs.value or [], self.endpoints.value, self.inventory.value, self.draft, overview.list_seen()
        )


def read_summary() -> Summary:
    """Return what is known now."""
    place = reads.find_connection()
    active = operations.list_operations(place.alias, active=True) if place else []
    phase = _phase_of(place.alias, active) if place else None
    return Summary(
        connection=place,
        runs=reads.read_runs(),
        endpoints=reads.read(endpoints.list_endpoints, max_age_s=5.0, phase=phase),
        inventory=reads.read(inventory.list_billing, max_age_s=10.0, phase=phase),
        draft=_find_draft(place),
        faults=reads.read(Connection.list_faults, max_age_s=10.0).value or (),
        open_run=_read_open_run(),
        busy=bool(active),
    )


def _find_draft(place: Connection | None) -> Draft | None:
    """Return the set-up of this session, else that which was changed last in this workspace."""
    if ui().draft_id:
        return drafts.find_draft(ui().draft_id or "")
    return drafts.find_latest_draft(place.alias, unfinished=False) if place else None


def _phase_of(alias: str, active: list[Operation]) -> object:
    """Return what is another when an operation of this home begins, takes a step or ends: then something may bill that
    did not, or no longer.
    """
    newest = operations.list_operations(alias, limit=1)
    return [one.number for one in newest], [(one.id, one.step.name if one.step else "") for one in active]


def _read_open_run() -> Run | None:
    name = url_id("run") if ui().page == "runs" else None
    if not name:
        return None
    found = reads.read(overview.read_run, name, max_age_s=2.0)
    return None if isinstance(found.error, NotFound) else found.value
