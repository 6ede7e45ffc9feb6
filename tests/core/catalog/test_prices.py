from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from core.azureml.connection import Connection, connect
from core.azureml.settings import Settings
from core.catalog import prices
from core.catalog.compute import size_price
from core.catalog.prices import CostRange, Price, cost_range, money, pick_retail_price, read_estimated_price
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
        (Price(None), "price unknown"),
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


def test_the_workspaces_own_price_is_linux_and_dedicated() -> None:
    values = [
        {"retailPrice": 0.03, "osType": "Linux", "vmTier": "LowPriority"},
        {"retailPrice": 0.25, "osType": "Windows", "vmTier": "Standard"},
        {"retailPrice": 0.15, "osType": "Linux", "vmTier": "Standard"},
    ]
    answer = {"billingCurrency": "EUR", "unitOfMeasure": "OneHour", "values": values}
    assert read_estimated_price(answer) == Price(0.15, "EUR", "workspace")
    assert read_estimated_price({**answer, "unitOfMeasure": "OneMonth"}) == Price(None)
    assert read_estimated_price(None) == Price(None)


def test_spot_low_priority_windows_and_other_terms_are_not_the_price() -> None:
    assert pick_retail_price(ITEMS) == Price(3.673, "USD", "retail")
    assert pick_retail_price(ITEMS[:5]) == Price(None)


def test_the_price_list_is_asked_once_a_day_over_all_its_pages_and_gets_no_token(
    home: Home, price_list: PriceList
) -> None:
    conn = connect(AZURE)
    for _ in range(3):
        assert prices.retail_price(conn, "westeurope", SIZE).words == "$3.67/h"
    assert len(price_list.asked) == 2
    assert f"armSkuName eq '{SIZE}'" in price_list.asked[0]["$filter"][0]
    assert "armRegionName eq 'westeurope'" in price_list.asked[0]["$filter"][0]
    assert price_list.asked[0]["authorization"] == [""]


def test_a_price_kept_before_the_clock_was_set_back_is_asked_for_again(home: Home, price_list: PriceList) -> None:
    kept = {"per_hour": 0.01, "currency": "USD", "at": time.time() + 30 * 86400}
    (home.path / "prices.json").write_text(json.dumps({f"westeurope/{SIZE.lower()}": kept}))
    assert prices.retail_price(connect(AZURE), "westeurope", SIZE).words == "$3.67/h"


def test_a_size_the_list_does_not_know_or_a_list_that_fails_is_unknown(home: Home, price_list: PriceList) -> None:
    assert prices.retail_price(connect(AZURE), "westeurope", "Standard_None").words == "price unknown"
    price_list.status = 500
    assert prices.retail_price(connect(AZURE), "northeurope", SIZE).words == "price unknown"


def test_the_local_workspace_costs_nothing_and_is_not_looked_up(conn: Connection, price_list: PriceList) -> None:
    assert size_price(conn, "local.cpu1").words == "$0.00/h"
    assert price_list.asked == []
