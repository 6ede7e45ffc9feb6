"""The tags that a company's policy wants on whatever is made in a workspace: kept with it, edited on Connect."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from core.azureml.settings import find_settings, save_settings
from core.azureml.tags import parse_policy_tags
from pages.parts.kit.action import action


def draw_policy_tags(alias: str) -> None:
    """Draw the field for the tags of a workspace that is kept."""
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
        action("Keep tags", _keep, alias, key="keep-tags", icon="sell", in_form=True)


def _keep(alias: str) -> None:
    settings, text = find_settings(alias), str(st.session_state["policy-tags"]).strip()
    parse_policy_tags(text)  # raises BadInput for what cannot be one
    if settings:
        save_settings(replace(settings, policy_tags=text))
