"""What is kept with a workspace on Azure and edited on Connect: a company's tags and prices, more registries."""

from __future__ import annotations

import re
from dataclasses import replace

import streamlit as st

from core.azureml.settings import find_settings, save_settings
from core.azureml.tags import parse_policy_tags
from core.errors import BadInput
from pages.parts.kit.action import action


def draw_workspace_choices(alias: str) -> None:
    """Draw the fields of a workspace that is kept."""
    settings = find_settings(alias)
    if settings is None:
        return
    with st.form("policy-tags", border=True):
        st.text_input(
            "Tags",
            value=settings.policy_tags,
            key="policy-tags",
            placeholder="costCentre=4711, owner=ada@contoso.com",
            help="What your company's policy asks for. Put on each compute, data asset, run, model, endpoint and "
            "deployment that Tunedeck makes in this workspace from now on.",
        )
        st.text_input(
            "More registries",
            value=", ".join(settings.registries),
            key="more-registries",
            placeholder="contoso-models, fabrikam-shared",
            help="Models are found in Azure's open registries and in those of this subscription. Name others here.",
        )
        st.number_input(
            "Share of list prices",
            value=settings.price_factor,
            step=0.01,
            format="%.4g",
            key="price-factor",
            help="What your company pays of a list price, e.g. 0.83 for a discount of 17 %. Every price and cost of "
            "this workspace is multiplied by it, and says so.",
        )
        action("Keep these", _keep, alias, key="keep-choices", icon="save", in_form=True)


def _keep(alias: str) -> None:
    settings, text = find_settings(alias), str(st.session_state["policy-tags"]).strip()
    parse_policy_tags(text)  # raises BadInput for what cannot be one
    names = tuple(dict.fromkeys(re.split(r"[,\s]+", str(st.session_state["more-registries"]).strip())))
    for name in filter(None, names):
        if not re.fullmatch(r"[A-Za-z0-9][\w-]{1,32}", name):
            raise BadInput(f"'{name}' cannot be the name of a registry.", "It has 2 to 33 letters, digits, - and _.")
    if settings:
        factor = float(st.session_state["price-factor"])
        save_settings(replace(settings, policy_tags=text, registries=tuple(filter(None, names)), price_factor=factor))
