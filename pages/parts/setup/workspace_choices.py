"""What is kept with a workspace on Azure and edited on Connect: a company's tags and prices, more registries."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

from core.azureml.settings import Settings, change_settings, find_settings
from core.azureml.tags import parse_policy_tags
from core.errors import BadInput
from pages.parts.kit import fields
from pages.parts.kit.action import action
from pages.parts.kit.fields import Field


def draw_workspace_choices(alias: str) -> None:
    """Draw the fields of a workspace that is kept."""
    settings = find_settings(alias)
    if settings is None:
        return
    drawn = {name: fields.place(f"{name}-{alias}", value) for name, value in _list_kept(settings).items()}
    tags, registries, factor = drawn.values()
    with st.form("policy-tags", border=True):
        st.text_input(
            "Tags",
            value=tags.value,
            key=tags.key,
            placeholder="costCentre=4711, owner=ada@contoso.com",
            help="What your company's policy asks for. Put on each compute, data asset, run, model, endpoint and "
            "deployment that Tunedeck makes in this workspace from now on.",
        )
        st.text_input(
            "More registries",
            value=registries.value,
            key=registries.key,
            placeholder="contoso-models, fabrikam-shared",
            help="Models are found in Azure's open registries and in those of this subscription. Name others here.",
        )
        st.number_input(
            "Share of list prices",
            value=factor.value,
            step=0.01,
            format="%.4g",
            key=factor.key,
            help="What your company pays of a list price, e.g. 0.83 for a discount of 17 %. Every price and cost of "
            "this workspace is multiplied by it, and says so.",
        )
        action("Keep these", _keep, alias, drawn, key="keep-choices", icon="save", in_form=True)


def _list_kept(settings: Settings) -> dict[str, Any]:
    """Return what is kept, by the setting's name."""
    return {
        "policy_tags": settings.policy_tags,
        "registries": ", ".join(settings.registries),
        "price_factor": settings.price_factor,
    }


def _keep(alias: str, drawn: Mapping[str, Field]) -> None:
    """Keep what was changed here; what another tab changed meanwhile in another field stays."""
    given = {name: st.session_state[field.key] for name, field in drawn.items()}
    changed = {name: _PARSERS[name](value) for name, value in given.items() if value != drawn[name].value}
    change_settings(alias, **changed)


def _parse_tags(text: str) -> str:
    parse_policy_tags(text.strip())  # raises BadInput for what cannot be one
    return text.strip()


def _parse_registries(text: str) -> tuple[str, ...]:
    names = tuple(filter(None, dict.fromkeys(re.split(r"[,\s]+", text.strip()))))
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9][\w-]{1,32}", name):
            raise BadInput(f"'{name}' cannot be the name of a registry.", "It has 2 to 33 letters, digits, - and _.")
    return names


_PARSERS: dict[str, Callable[[Any], object]] = {
    "policy_tags": _parse_tags,
    "registries": _parse_registries,
    "price_factor": float,
}
