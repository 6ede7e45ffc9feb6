"""The drawer that creates a compute, on Azure: what a node costs stands there before it is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from core.azureml.connection import connect
from core.azureml.settings import Settings, save_settings
from core.catalog import prices
from core.home import Home
from tests.core.catalog.price_list import serving_prices
from tests.pages.apps import run_until, texts

AZURE = Settings("ml-dev", "azure", "11111111-2222-3333-4444-555555555555", "rg-ml", "ml-dev")


def draw_price() -> None:
    from core.catalog import compute
    from core.catalog.compute import Size
    from core.catalog.prices import Price
    from pages.parts.kit import reads
    from pages.parts.kit.state import ui
    from pages.parts.setup import compute_drawer
    from tests.core.catalog.price_list import SIZE

    ui().alias = "ml-dev"
    unpriced = Size(SIZE, "NCADSA100v4", 24, 220.0, 1, Price(None), True, True)
    size = (reads.read(compute.with_prices, (unpriced,)).value or [unpriced])[0]
    compute_drawer.draw_price(size.price, billed=True)


def test_a_size_whose_price_the_workspace_leaves_out_is_looked_up_in_the_price_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEDECK_HOME", str(tmp_path))
    home = Home(tmp_path).create()
    save_settings(AZURE)
    connect(AZURE, home=home).remember("region", lambda: "westeurope", 600)  # known before the drawer opens
    with serving_prices() as server:
        monkeypatch.setenv(prices.RETAIL_URL_VARIABLE, server.url)
        app = AppTest.from_function(draw_price, default_timeout=60).run()
        run_until(app, lambda app: "$3.67/h for each node while it works" in texts(app))
