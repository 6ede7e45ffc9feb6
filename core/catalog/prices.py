"""Prices of sizes and what they add up to. Knows list prices only: never a bill, and never 0 where it does not know."""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
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
_cache_lock = threading.Lock()


@dataclass(frozen=True)
class Price:
    """What an hour of a size costs. `per_hour` None means not known; source: "workspace", "retail" or "unknown"."""

    per_hour: float | None
    currency: str = "USD"
    source: str = "unknown"

    @property
    def words(self) -> str:
        """Return "$3.67/h", "EUR 3.10/h" or "price unknown"."""
        return PRICE_UNKNOWN if self.per_hour is None else f"{money(self.per_hour, self.currency)}/h"

    @property
    def is_free(self) -> bool:
        """Tell whether it is known to cost nothing."""
        return self.per_hour == 0

    def times(self, nodes: int) -> Price:
        """Return the price of several nodes."""
        return self if self.per_hour is None else Price(self.per_hour * nodes, self.currency, self.source)


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
    if prices and not known:
        return Price(None), len(prices)
    currency = known[0].currency if known else "USD"
    same = [price for price in known if price.currency == currency]
    total = sum(price.per_hour or 0.0 for price in same)
    return Price(total, currency, "workspace"), len(prices) - len(same)


def read_estimated_price(answer: Mapping[str, Any] | None) -> Price:
    """Return the price in a vmSizes entry's `estimatedVMPrices`: Linux, dedicated."""
    values = (answer or {}).get("values") or []
    per_unit = (answer or {}).get("unitOfMeasure", "OneHour")
    for value in values:
        if (
            per_unit == "OneHour"
            and str(value.get("osType", "")).lower() == "linux"
            and str(value.get("vmTier", "")).lower() == "standard"
            and isinstance(value.get("retailPrice"), int | float)
        ):
            return Price(float(value["retailPrice"]), str((answer or {}).get("billingCurrency", "USD")), "workspace")
    return Price(None)


def retail_price(conn: Connection, region: str, size_name: str) -> Price:
    """Return what the cloud's public price list says, kept for a day; unknown where there is none or it does not say.

    A workspace that bills nobody is not looked up.
    """
    if not conn.costs_money or not conn.cloud.prices:
        return Price(None)
    key = f"{region.lower()}/{size_name.lower()}"
    kept = _read_cache().get(key)
    # One from a time to come was kept before the clock was set back.
    if kept and 0 <= time.time() - kept["at"] < (_CACHE_S if kept["per_hour"] is not None else _MISS_CACHE_S):
        return Price(kept["per_hour"], kept["currency"], "retail" if kept["per_hour"] is not None else "unknown")
    try:
        found = _ask_retail(conn, region, size_name)
    except TunedeckError:
        found = Price(None)  # a price list that does not answer hides no resource: it says "price unknown"
    _write_cache(key, found)
    return found


def _ask_retail(conn: Connection, region: str, size_name: str) -> Price:
    """Ask the price list; its filter tells upper from lower case, so the size's own spelling is needed."""
    wanted = (
        f"serviceName eq 'Virtual Machines' and armRegionName eq '{region}' "
        f"and armSkuName eq '{size_name}' and priceType eq 'Consumption'"
    )
    url: str | None = os.environ.get(RETAIL_URL_VARIABLE, conn.cloud.prices)
    params: dict[str, str] | None = {"api-version": _RETAIL_API, "$filter": wanted}
    items: list[Mapping[str, Any]] = []
    for _ in range(_MOST_PAGES):
        answer = conn.http(
            "GET", str(url), params=params, authenticated=False, what="the price list", timeout_s=5
        ).json()
        items += answer.get("Items", [])
        url, params = answer.get("NextPageLink"), None
        if not url:
            break
    return pick_retail_price(items)


def pick_retail_price(items: Iterable[Mapping[str, Any]]) -> Price:
    """Return the dedicated Linux price among a size's entries: not Spot, not low priority, not Windows, per hour."""
    prices = [
        Price(float(item["retailPrice"]), str(item.get("currencyCode", "USD")), "retail")
        for item in items
        if item.get("unitOfMeasure") == "1 Hour"
        and item.get("type") == "Consumption"
        and not any(word in f"{item.get('meterName')} {item.get('skuName')}" for word in ("Spot", "Low Priority"))
        and "Windows" not in str(item.get("productName"))
        and float(item.get("retailPrice") or 0) > 0
    ]
    return max(prices, key=lambda price: price.per_hour or 0.0, default=Price(None))


def _cache_path() -> Path:
    return home.current().path / "prices.json"


def _read_cache() -> dict[str, Any]:
    try:
        kept = json.loads(_cache_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # a cache that cannot be read is one that is empty
    return kept if isinstance(kept, dict) else {}


def _write_cache(key: str, price: Price) -> None:
    with _cache_lock:
        entry = {"per_hour": price.per_hour, "currency": price.currency, "at": time.time()}
        home.write_atomically(_cache_path(), json.dumps({**_read_cache(), key: entry}))


def _mark(currency: str) -> str:
    return "$" if currency == "USD" else f"{currency} "
