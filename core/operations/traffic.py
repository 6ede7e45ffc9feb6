"""Change the traffic of an endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from core.azureml.polling import check_write
from core.errors import BadInput
from core.operations.change import Change, Done, Outcome, StepSpec, Wait
from core.operations.ledger import Ledger
from core.operations.records import Operation
from core.operations.work import LOOK_S, Work
from core.serving.endpoints import DEPLOYMENT_NAME, begin_traffic, get_endpoint


@dataclass(frozen=True)
class SetTraffic(Change, stored_as="traffic"):
    """New traffic for an endpoint."""

    words = "Change traffic of {}"
    writes_a = "endpoint"
    traffic: Mapping[str, int] = field(default_factory=dict)
    """Percent by deployment."""

    @property
    def _key(self) -> str:
        return f"{self.subject}:{sorted(self.traffic.items())}"

    def _list_steps(self) -> tuple[StepSpec[Work[SetTraffic]], ...]:
        return (StepSpec("traffic", "Traffic", _set_traffic, patience_s=1800.0),)


def start_set_traffic(connection: str, endpoint: str, traffic: Mapping[str, int] | None = None) -> Operation:
    """Record new traffic for an endpoint; without `traffic`, all of it goes to "demo"."""
    wanted = dict(traffic or {DEPLOYMENT_NAME: 100})
    if sum(wanted.values()) not in (0, 100):
        raise BadInput(f"The shares add up to {sum(wanted.values())} %.", "They must add up to 100 %, or to 0.")
    return Ledger().start(connection, SetTraffic(endpoint, wanted))


def _set_traffic(work: Work[SetTraffic]) -> Outcome:
    name, wanted = work.change.subject, work.change.traffic
    if error := check_write(work.conn, f"endpoint '{name}'"):
        raise error
    endpoint = get_endpoint(work.conn, name)
    if endpoint.state.goes_on:
        return Wait("Changing the endpoint", LOOK_S)
    if {k: v for k, v in endpoint.traffic.items() if v} == {k: v for k, v in wanted.items() if v}:
        return Done(", ".join(f"{percent} % to {deployment}" for deployment, percent in wanted.items()))
    begin_traffic(work.conn, name, wanted)
    return Wait("Changing the endpoint", LOOK_S)
