"""Prices of sizes and what they add up to. Knows list prices only: never a bill, and never 0 where it does not know."""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from core import home
from core.azureml.connection import Connection
from core.errors import TunedeckError

PRICE_UNKNOWN = "price unknown"
RETAIL_URL_VARIABLE = "TUNEDECK_RETAIL_PRICES_URL"
_RETAIL_API = "2023-01-01-preview"
_CACHE_S = 24 * 3600
_MISS_CACHE_S = 600
_MOST_PAGES = 5
_SIZES_AT_ONCE = 20  # some six entries each; a page holds a hundred, and an address two thousand letters
_REQUESTS_AT_ONCE = 4
_cache_lock = threading.Lock()


@dataclass(frozen=True)
class Price:
    """What an hour of a size costs. `per_hour` None means not known; source: "workspace", "retail" or "unknown"."""

    per_hour: float | None
    currency: str = "USD"
    source: str = "unknown"
    why: str = field(default="", compare=False)
    """Why it is not known, a sentence."""
    factor: float = 1.0
    """Which share of the list price it is: a company's own prices."""

    @property
    def words(self) -> str:
        """Return "$3.67/h", "EUR 3.10/h", "$3.05/h (list × 0.83)" or "price unknown"."""
        if self.per_hour is None:
            return PRICE_UNKNOWN
        return f"{money(self.per_hour, self.currency)}/h" + (f" (list × {self.factor:g})" if self.factor != 1 else "")

    @property
    def is_free(self) -> bool:
        """Tell whether it is known to cost nothing."""
        return self.per_hour == 0

    def times(self, nodes: int) -> Price:
        """Return the price of several nodes."""
        return self if self.per_hour is None else replace(self, per_hour=self.per_hour * nodes)

    def at(self, factor: float) -> Price:
        """Return this share of a list price."""
        return self if self.per_hour is None else replace(self, per_hour=self.per_hour * factor, factor=factor)


@dataclass(frozen=True)
class Rates:
    """What an hour of a size costs, as a dedicated node and as one of low priority."""

    dedicated: Price = Price(None)
    low_priority: Price = Price(None)

    def at(self, factor: float) -> Rates:
        """Return this share of list prices."""
        return Rates(self.dedicated.at(factor), self.low_priority.at(factor))


@dataclass(frozen=True)
class CostRange:
    """A cost between two amounts; None, None where the price is not known."""

    low: float | None
    high: float | None
    currency: str = "USD"

    @property
    def words(self) -> str:
        """Return "$3 to $5", "about $3", "$0.00" or "price unknown"."""
        if self.low is None or self.high is None:
            return PRICE_UNKNOWN
        if self.high < 2:  # whole amounts would say "$0 to $1"
            low, high = money(self.low, self.currency), money(self.high, self.currency)
            return low if low == high else f"{low} to {high}"
        mark = _mark(self.currency)
        low, high = f"{mark}{math.floor(self.low):,}", f"{mark}{math.ceil(self.high):,}"
        return f"about {low}" if low == high else f"{low} to {high}"


def money(amount: float | None, currency: str = "USD") -> str:
    """Return "$11.32", "<$0.01", "EUR 3.10" or "price unknown"."""
    if amount is None:
        return PRICE_UNKNOWN
    mark = _mark(currency)
    return f"<{mark}0.01" if 0 < amount < 0.01 else f"{mark}{amount:,.2f}"


def not_a_bill(factor: float) -> str:
    """Return what an amount is: "List price, not your bill.", or with the share of it that a company pays."""
    return f"List price{f' × {factor:g}' if factor != 1 else ''}, not your bill."


def add_costs(costs: Sequence[CostRange]) -> CostRange:
    """Return the sum of costs in one currency; not known where one of them is not."""
    currencies = {cost.currency for cost in costs}
    known = [(cost.low, cost.high) for cost in costs if cost.low is not None]
    if len(known) < len(costs) or len(currencies) > 1:
        return CostRange(None, None, min(currencies))
    low, high = (sum(each or 0.0 for each in part) for part in zip(*known, strict=True)) if known else (0.0, 0.0)
    return CostRange(low, high, min(currencies, default="USD"))


def cost_range(price: Price, minutes_low: float, minutes_high: float, nodes: int = 1) -> CostRange:
    """Return what `nodes` nodes cost for so many minutes."""
    if price.per_hour is None:
        return CostRange(None, None, price.currency)
    per_minute = price.per_hour * nodes / 60
    return CostRange(per_minute * minutes_low, per_minute * minutes_high, price.currency)


def total_per_hour(prices: Iterable[Price]) -> tuple[Price, int]:
    """Return the sum of the known prices and how many are not known. Nothing at all costs nothing."""
    prices = list(prices)
    known = [price for price in prices if price.per_hour is not None]
    if not known:
        return Price(None if prices else 0.0), len(prices)
    same = [price for price in known if price.currency == known[0].currency]
    return replace(known[0], per_hour=sum(price.per_hour or 0.0 for price in same)), len(prices) - len(same)


def read_estimated_prices(answer: Mapping[str, Any] | None, factor: float = 1.0) -> Rates:
    """Return the prices in a vmSizes entry's `estimatedVMPrices`: Linux, at this share of the list."""
    found = {"standard": Price(None), "lowpriority": Price(None)}
    answer = answer or {}
    for value in answer.get("values") or [] if answer.get("unitOfMeasure", "OneHour") == "OneHour" else []:
        tier, amount = str(value.get("vmTier", "")).lower(), value.get("retailPrice")
        if str(value.get("osType", "")).lower() == "linux" and tier in found and isinstance(amount, int | float):
            found[tier] = Price(float(amount), str(answer.get("billingCurrency", "USD")), "workspace")
    return Rates(found["standard"], found["lowpriority"]).at(factor)


def retail_prices(conn: Connection, region: str, size_names: Sequence[str]) -> dict[str, Rates]:
    """Return what the cloud's public price list says of sizes, kept for a day; unknown, with why, where it does not.

    They are at the connection's share of the list; what is kept is the list's own.
    A workspace that bills nobody is not looked up. Sizes are asked for some at a time.
    """
    if not conn.costs_money:
        return {}
    if not conn.cloud.prices:
        silent = Price(None, why="This cloud has no public price list.")
        return dict.fromkeys(size_names, Rates(silent, silent))
    kept = _read_cache()
    found = {name: rates for name in size_names if (rates := _find_kept(kept, region, name))}
    missing = [name for name in dict.fromkeys(size_names) if name not in found]
    parts = [missing[start : start + _SIZES_AT_ONCE] for start in range(0, len(missing), _SIZES_AT_ONCE)]
    with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as pool:
        for part in pool.map(lambda names: _ask_retail(conn, region, names), parts):
            found |= part
    if missing:
        _write_cache({_key(region, name): _to_entry(found[name]) for name in missing})
    return {name: rates.at(conn.settings.price_factor) for name, rates in found.items()}


def _ask_retail(conn: Connection, region: str, size_names: Sequence[str]) -> dict[str, Rates]:
    """Ask the price list; its filter tells upper from lower case, so the sizes' own spelling is needed."""
    sizes = " or ".join(f"armSkuName eq '{name}'" for name in size_names)
    wanted = (
        f"serviceName eq 'Virtual Machines' and armRegionName eq '{region}' and ({sizes}) "
        "and priceType eq 'Consumption'"
    )
    url: str | None = os.environ.get(RETAIL_URL_VARIABLE, conn.cloud.prices)
    params: dict[str, str] | None = {"api-version": _RETAIL_API, "$filter": wanted}
    items: list[Mapping[str, Any]] = []
    try:
        for _ in range(_MOST_PAGES):
            answer = conn.http(
                "GET", str(url), params=params, authenticated=False, what="the price list", timeout_s=5
            ).json()
            items += answer.get("Items", [])
            url, params = answer.get("NextPageLink"), None
            if not url:
                break
    except TunedeckError as error:  # a price list that does not answer hides no resource: it says "price unknown"
        silent = Price(None, why=f"Azure's price list could not be read: {error.message}")
        return dict.fromkeys(size_names, Rates(silent, silent))
    return {name: pick_rates([item for item in items if item.get("armSkuName") == name]) for name in size_names}


def pick_rates(items: Iterable[Mapping[str, Any]]) -> Rates:
    """Return the Linux prices among a size's entries: not Spot, not Windows, per hour."""
    dedicated: list[Price] = []
    low: list[Price] = []
    for item in items:
        named = f"{item.get('meterName')} {item.get('skuName')}"
        if (
            item.get("unitOfMeasure") == "1 Hour"
            and item.get("type") == "Consumption"
            and "Spot" not in named
            and "Windows" not in str(item.get("productName"))
            and float(item.get("retailPrice") or 0) > 0
        ):
            price = Price(float(item["retailPrice"]), str(item.get("currencyCode", "USD")), "retail")
            (low if "Low Priority" in named else dedicated).append(price)
    nothing = Price(None, why="Neither the workspace nor Azure's price list names a price for it in this region.")
    return Rates(*(max(found, key=lambda price: price.per_hour or 0.0, default=nothing) for found in (dedicated, low)))


def _key(region: str, size_name: str) -> str:
    return f"{region}/{size_name}".lower()


def _find_kept(cache: Mapping[str, Any], region: str, size_name: str) -> Rates | None:
    """Return prices that were kept, None where they are too old; what is not known is asked for again soon."""
    entry = cache.get(_key(region, size_name)) or {}
    if "low_priority" not in entry:
        return None
    good_s = _CACHE_S if entry["per_hour"] is not None else _MISS_CACHE_S
    if not 0 <= time.time() - entry["at"] < good_s:  # one from a time to come was kept before the clock was set back
        return None
    unknown = Price(None, entry["currency"], why=entry["why"])
    amounts = (entry["per_hour"], entry["low_priority"])
    return Rates(*(unknown if each is None else Price(each, entry["currency"], "retail") for each in amounts))


def _to_entry(rates: Rates) -> dict[str, Any]:
    price, low = rates.dedicated, rates.low_priority
    amounts = {"per_hour": price.per_hour, "low_priority": low.per_hour}
    return {**amounts, "currency": price.currency, "why": price.why or low.why, "at": time.time()}


def _cache_path() -> Path:
    return home.current().path / "prices.json"


def _read_cache() -> dict[str, Any]:
    try:
        kept = json.loads(_cache_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # a cache that cannot be read is one that is empty
    return kept if isinstance(kept, dict) else {}


def _write_cache(entries: Mapping[str, Any]) -> None:
    with _cache_lock:
        home.write_atomically(_cache_path(), json.dumps({**_read_cache(), **entries}))


def _mark(currency: str) -> str:
    return "$" if currency == "USD" else f"{currency} "
