"""Azure's public price list, for the sizes of the region: dedicated, low priority, Spot and Windows, mixed."""

from __future__ import annotations

import re
from typing import Any

from tests.azure.rules import Answer

PER_HOUR = {
    "Standard_NC24ads_A100_v4": 3.673,
    "Standard_NC48ads_A100_v4": 7.346,
    "Standard_NC96ads_A100_v4": 14.692,
    "Standard_NC40ads_H100_v5": 6.98,
    "Standard_ND96amsr_A100_v4": 32.77,
    "Standard_DS3_v2": 0.229,
}


def answer_prices(wanted: str) -> Answer:
    """Answer a filter such as "armRegionName eq 'eastus' and (armSkuName eq 'Standard_DS3_v2' or …) and …"."""
    asked = re.findall(r"(\w+) eq '([^']*)'", wanted)
    region = dict(asked).get("armRegionName", "")
    # The list's filter tells upper from lower case.
    sizes = [value for name, value in asked if name == "armSkuName" and value in PER_HOUR]
    entries = [entry for size in sizes for entry in _entries(size, PER_HOUR[size], region)]
    return Answer.of({"BillingCurrency": "USD", "Items": entries, "NextPageLink": None, "Count": len(entries)})


def _entries(size: str, price: float, region: str) -> list[dict[str, Any]]:
    series = size.removeprefix("Standard_").split("_")[0]

    def entry(factor: float, meter: str = "", product: str = "") -> dict[str, Any]:
        name = f"{series}{meter}"
        return {
            "currencyCode": "USD",
            "retailPrice": round(price * factor, 4),
            "unitPrice": round(price * factor, 4),
            "armRegionName": region,
            "meterName": name,
            "skuName": name,
            "productName": f"Virtual Machines {series} Series{product}",
            "unitOfMeasure": "1 Hour",
            "type": "Consumption",
            "armSkuName": size,
        }

    return [entry(1), entry(0.2, " Low Priority"), entry(0.15, " Spot"), entry(1.5, product=" Windows")]
