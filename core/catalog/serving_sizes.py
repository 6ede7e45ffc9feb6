"""Sizes that may serve a model, before it has an endpoint, and where that was read. Knows no prices and no quota."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from core.azureml.connection import Connection
from core.catalog.allow_list import AllowList
from core.catalog.base_models import BaseModel, get_base_model
from core.catalog.templates import list_templates
from core.errors import TunedeckError

_KEPT_S = 600.0
# "Managed online endpoints SKU list" of Azure ML's documentation, by series: {} stands for each of the numbers.
_PUBLISHED = {
    "D{}a_v4": (2, 4, 8, 16, 32, 48, 64, 96),
    "D{}as_v4": (2, 4, 8, 16, 32, 48, 64, 96),
    "DS{}_v2": (1, 2, 3, 4, 5),
    "E{}s_v3": (2, 4, 8, 16, 32, 48, 64),
    "F{}s_v2": (2, 4, 8, 16, 32, 48, 64, 72),
    "FX{}mds": (4, 12, 24, 36, 48),
    "L{}as_v3": (8, 16, 32, 48, 64, 80),
    "L{}s_v2": (8, 16, 32, 48, 64, 80),
    "L{}s_v3": (8, 16, 32, 48, 64, 80),
    "NC{}s_v2": (6, 12, 24),
    "NC{}s_v3": (6, 12, 24),
    "NC{}as_T4_v3": (4, 8, 16, 64),
    "NC{}ads_A100_v4": (24, 48, 96),
    "NC{}ads_H100_v5": (40,),
    "NC{}adis_H100_v5": (80,),
    "ND{}rs_v2": (40,),
    "ND{}asr_v4": (96,),
    "ND{}amsr_A100_v4": (96,),
    "ND{}is_H100_v5": (96,),
    "ND{}isr_H100_v5": (96,),
    "NV{}ads_A10_v5": (6, 12, 18, 36, 72),
    "NV{}adms_A10_v5": (36,),
}


def read_serving_list(conn: Connection, name: str, version: str = "latest") -> AllowList:
    """Return the sizes that may serve a model, from the first place that says.

    Its deployment templates; its own allow-list and recommended sizes (tag, property, metadata) or the least it asks;
    the published list. Raises NotFound for a model that is not there.
    """
    model = get_base_model(conn, name, version)
    if conn.cloud.is_local:
        return model.inference
    return conn.remember(f"serving list {model.id}", lambda: _read_list(conn, model), _KEPT_S)


def _read_list(conn: Connection, model: BaseModel) -> AllowList:
    own = model.inference
    if own.sizes is None and own.minimum is None:
        own = replace(own, sizes=tuple(_list_published()), source="published", source_name="list of managed endpoints")
    try:
        templates = list_templates(conn, model.card.templates)
    except TunedeckError as error:
        problem = f"The deployment templates of '{model.name}' could not be read: {error.message}"
        return replace(own, problem=problem, hint="What else tells its sizes is used instead.")
    sizes = tuple(dict.fromkeys(size for template in templates for size in template.sizes if size))
    return AllowList(sizes, "template", ", ".join(each.name for each in templates)) if sizes else own


def _list_published() -> Iterator[str]:
    for series, numbers in _PUBLISHED.items():
        for number in numbers:
            yield f"Standard_{series.format(number)}"
