"""Azure's public price list as a server with its wire shape, for one size."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

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
        "armSkuName": SIZE,
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


@contextmanager
def serving_prices() -> Iterator[PriceList]:
    server = PriceList()
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
