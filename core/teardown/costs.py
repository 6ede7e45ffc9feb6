"""What spans of time come to, at the price of each. Pure arithmetic: knows list prices, never a bill.

Virtual machines are priced by the hour and billed by the second (azure.microsoft.com/pricing/details/virtual-machines),
so nothing is rounded up to a minute or an hour. Times are the workspace's own: see `Connection.now`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from core.catalog.prices import Price, money

_HOUR_S = 3600


@dataclass(frozen=True)
class Span:
    """Some nodes for some time. nodes: None where nobody saw how many; price: of one of them, as it was seen then."""

    begun: datetime
    ended: datetime | None
    """None: it goes on."""
    nodes: int | None
    price: Price

    @property
    def per_hour(self) -> float | None:
        """What an hour of all nodes comes to; None where that is not known: no node, or no price, comes to nothing."""
        if self.nodes == 0 or self.price.is_free:
            return 0.0
        return None if self.nodes is None or self.price.per_hour is None else self.nodes * self.price.per_hour

    def within(self, begun: datetime, ended: datetime) -> Span | None:
        """Return the part between two times, None where there is none."""
        since, until = max(self.begun, begun), min(self.ended or ended, ended)
        return Span(since, until, self.nodes, self.price) if since < until else None


@dataclass(frozen=True)
class Cost:
    """Amounts by currency, never added across; `unknown` counts the things of which a part is not known."""

    amounts: Mapping[str, float] = field(default_factory=dict, hash=False)
    unknown: int = 0

    @property
    def amount(self) -> float | None:
        """The whole amount; None where a part is not known or where it is of more than one currency."""
        return None if self.unknown or len(self.amounts) > 1 else sum(self.amounts.values())

    @property
    def words(self) -> str:
        """Return "$12.30", "$12.30 + EUR 3.00 + 2 unknown" or "unknown"."""
        known = [money(amount, currency) for currency, amount in sorted(self.amounts.items()) if amount]
        if not self.unknown:
            return " + ".join(known) or money(0.0, next(iter(self.amounts), "USD"))
        return " + ".join([*known, f"{self.unknown} unknown"]) if known else "unknown"


def cost_of(spans: Iterable[Span], now: datetime) -> Cost:
    """Return what the spans of one thing come to until now, the workspace's time."""
    amounts: dict[str, float] = {}
    unknown = False
    for span in spans:
        hours = max(0.0, ((span.ended or now) - span.begun).total_seconds()) / _HOUR_S
        if (per_hour := span.per_hour) is not None:
            currency = span.price.currency
            amounts[currency] = amounts.get(currency, 0.0) + per_hour * hours
        unknown |= per_hour is None and hours > 0
    return Cost(amounts, int(unknown))


def sum_costs(costs: Iterable[Cost]) -> Cost:
    """Return the sum of what several things cost."""
    amounts: dict[str, float] = {}
    unknown = 0
    for cost in costs:
        unknown += cost.unknown
        for currency, amount in cost.amounts.items():
            amounts[currency] = amounts.get(currency, 0.0) + amount
    return Cost(amounts, unknown)
