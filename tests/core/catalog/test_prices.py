from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from core.azureml.connection import Connection, Settings, connect
from core.catalog import prices
from core.catalog.prices import BillLine, CostRange, Price, cost_range, money, pick_retail_price, read_estimated_price
from core.home import Home

AZURE = Settings("ml-dev", "azure", "11111111-2222-3333-4444-555555555555", "rg-ml", "ml-dev")
SIZE = "Standard_NC24ads_A100_v4"


def item(price: float, **changes: Any) -> dict[str, Any]:
    return {
        "currencyCode": "USD",
        "retailPrice": price,
        "meterName": "NC24ads A100 v4",
        "skuName": "NC24ads A100 v4",
        "productName": "Virtual Machines NCADSA100v4 Series",
        "unitOfMeasure": "1 Hour",
        "type": "Consumption",
        **changes,
    }


ITEMS = [
    item(0.73, meterName="NC24ads A100 v4 Spot"),
    item(0.74, skuName="NC24ads A100 v4 Low Priority"),
    item(5.0, productName="Virtual Machines NCADSA100v4 Series Windows"),
    item(1.0, type="DevTestConsumption"),
    item(30000.0, unitOfMeasure="1 Month"),
    item(3.673),
]


class PriceList(ThreadingHTTPServer):
    """Azure's public price list, two pages of it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[dict[str, list[str]]] = []
        self.status = 200
        self.url = f"http://127.0.0.1:{self.server_address[1]}/api/retail/prices"


class _Handler(BaseHTTPRequestHandler):
    server: PriceList

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        self.server.asked.append({**query, "authorization": [self.headers.get("Authorization") or ""]})
        second = "page" in query
        known = SIZE in str(query) or second
        body = {
            "Items": (ITEMS[3:] if second else ITEMS[:3]) if known else [],
            "NextPageLink": f"{self.server.url}?page=2" if known and not second else None,
        }
        content = json.dumps(body).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Keep the test's output quiet."""


@pytest.fixture
def price_list(monkeypatch: pytest.MonkeyPatch) -> Iterator[PriceList]:
    server = PriceList()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv(prices.RETAIL_URL_VARIABLE, server.url)
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("price", "said"),
    [
        (Price(3.673), "$3.67/h"),
        (Price(0.0), "$0.00/h"),
        (Price(0.004), "<$0.01/h"),
        (Price(1234.5), "$1,234.50/h"),
        (Price(3.1, "EUR"), "3.10 EUR/h"),
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
        (CostRange(3.2, 4.6, "EUR"), "3 EUR to 5 EUR"),
    ],
)
def test_a_range_is_told(found: CostRange, said: str) -> None:
    assert found.words == said


def test_amounts_add_up_by_time_and_nodes() -> None:
    assert cost_range(Price(6.0), 10, 20, nodes=2) == CostRange(2.0, 4.0)
    assert cost_range(Price(None), 10, 20).words == "price unknown"
    since = datetime(2026, 11, 22, 12, tzinfo=UTC)
    line = BillLine("demo", Price(3.67), since)
    assert money(line.cost_so_far(since + timedelta(hours=3, minutes=5))) == "$11.32"
    assert BillLine("demo", Price(None), since).cost_so_far() is None
    assert BillLine("demo", Price(3.67), None).cost_so_far() is None
    assert BillLine("demo", Price(0.0), None).cost_so_far() == 0.0
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
    assert prices.size_price(conn, "local.cpu1").words == "$0.00/h"
    assert price_list.asked == []
