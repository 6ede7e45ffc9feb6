from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from core.azureml.connection import Connection, connect
from core.azureml.settings import Settings
from core.catalog import prices
from core.catalog.compute import size_price
from core.catalog.prices import CostRange, Price, Rates, cost_range, money, pick_rates, read_estimated_prices
from core.home import Home
from tests.core.catalog.price_list import ITEMS, SIZE, PriceList, serving_prices

AZURE = Settings("ml-dev", "azure", "11111111-2222-3333-4444-555555555555", "rg-ml", "ml-dev")


@pytest.fixture
def price_list(monkeypatch: pytest.MonkeyPatch) -> Iterator[PriceList]:
    with serving_prices() as server:
        monkeypatch.setenv(prices.RETAIL_URL_VARIABLE, server.url)
        yield server


@pytest.mark.parametrize(
    ("price", "said"),
    [
        (Price(3.673), "$3.67/h"),
        (Price(0.0), "$0.00/h"),
        (Price(0.004), "<$0.01/h"),
        (Price(1234.5), "$1,234.50/h"),
        (Price(3.1, "EUR"), "EUR 3.10/h"),
        (Price(3.673).at(0.83), "$3.05/h (list × 0.83)"),
        (Price(3.673).at(0.83).times(2), "$6.10/h (list × 0.83)"),
        (Price(None), "price unknown"),
        (Price(None).at(0.83), "price unknown"),
    ],
)
def test_a_price_is_told_and_never_as_zero_where_it_is_not_known(price: Price, said: str) -> None:
    assert price.words == said


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (CostRange(3.2, 4.6), "$3 to $5"),
        (CostRange(3.0, 3.0), "about $3"),
        (CostRange(0.2, 0.9), "$0.20 to $0.90"),
        (CostRange(0.0, 0.0), "$0.00"),
        (CostRange(None, None), "price unknown"),
        (CostRange(3.2, 4.6, "EUR"), "EUR 3 to EUR 5"),
    ],
)
def test_a_range_is_told(found: CostRange, said: str) -> None:
    assert found.words == said


def test_amounts_add_up_by_time_and_nodes() -> None:
    assert cost_range(Price(6.0), 10, 20, nodes=2) == CostRange(2.0, 4.0)
    assert cost_range(Price(None), 10, 20).words == "price unknown"
    assert money(None) == "price unknown"


def test_a_sum_says_how_many_prices_it_leaves_out() -> None:
    total, unknown = prices.total_per_hour([Price(3.67), Price(None), Price(3.67)])
    assert (total.words, unknown) == ("$7.34/h", 1)
    assert prices.total_per_hour([Price(None)])[0].words == "price unknown"
    assert prices.total_per_hour([])[0].words == "$0.00/h"


def test_the_workspaces_own_prices_are_those_of_linux() -> None:
    values = [
        {"retailPrice": 0.03, "osType": "Linux", "vmTier": "LowPriority"},
        {"retailPrice": 0.25, "osType": "Windows", "vmTier": "Standard"},
        {"retailPrice": 0.15, "osType": "Linux", "vmTier": "Standard"},
    ]
    answer = {"billingCurrency": "EUR", "unitOfMeasure": "OneHour", "values": values}
    dedicated, low_priority = Price(0.15, "EUR", "workspace"), Price(0.03, "EUR", "workspace")
    assert read_estimated_prices(answer) == Rates(dedicated, low_priority)
    assert read_estimated_prices(answer, 0.5) == Rates(dedicated.at(0.5), low_priority.at(0.5))
    assert read_estimated_prices({**answer, "unitOfMeasure": "OneMonth"}) == Rates()
    assert read_estimated_prices(None) == Rates()


def test_spot_windows_and_other_terms_are_not_the_price_and_low_priority_is_another() -> None:
    assert pick_rates(ITEMS) == Rates(Price(3.673, "USD", "retail"), Price(0.74, "USD", "retail"))
    none = pick_rates([ITEMS[0], *ITEMS[2:5]])
    assert none == Rates()
    assert none.dedicated.why == "Neither the workspace nor Azure's price list names a price for it in this region."


def test_the_price_list_is_asked_once_a_day_over_all_its_pages_and_gets_no_token(
    home: Home, price_list: PriceList
) -> None:
    conn = connect(AZURE)
    for _ in range(3):
        found = prices.retail_prices(conn, "westeurope", [SIZE])[SIZE]
        assert (found.dedicated.words, found.low_priority.words) == ("$3.67/h", "$0.74/h")
    assert len(price_list.asked) == 2
    assert f"armSkuName eq '{SIZE}'" in price_list.asked[0]["$filter"][0]
    assert "armRegionName eq 'westeurope'" in price_list.asked[0]["$filter"][0]
    assert price_list.asked[0]["authorization"] == [""]


def test_a_price_kept_before_the_clock_was_set_back_is_asked_for_again(home: Home, price_list: PriceList) -> None:
    kept = {"per_hour": 0.01, "currency": "USD", "at": time.time() + 30 * 86400}
    (home.path / "prices.json").write_text(json.dumps({f"westeurope/{SIZE.lower()}": kept}))
    assert ask("westeurope", SIZE).words == "$3.67/h"


def ask(region: str, size: str) -> Price:
    return prices.retail_prices(connect(AZURE), region, [size])[size].dedicated


def test_many_sizes_are_asked_for_together(home: Home, price_list: PriceList) -> None:
    others = [f"Standard_X{number}" for number in range(24)]
    found = prices.retail_prices(connect(AZURE), "westeurope", [*others, SIZE])
    assert len(price_list.asked) == 3, "twenty, five of which one is known, and its second page"
    assert [name for name, rates in found.items() if rates.dedicated.per_hour] == [SIZE]


def test_a_size_the_list_does_not_know_or_a_list_that_fails_is_unknown(home: Home, price_list: PriceList) -> None:
    assert ask("westeurope", "Standard_None").words == "price unknown"
    price_list.status = 500
    for _ in range(2):  # the second time from what is kept
        silent = ask("northeurope", SIZE)
        assert silent.words == "price unknown"
        assert silent.why.startswith("Azure's price list could not be read: ")


def test_the_local_workspace_costs_nothing_and_is_not_looked_up(conn: Connection, price_list: PriceList) -> None:
    assert size_price(conn, "local.cpu1").words == "$0.00/h"
    assert price_list.asked == []
