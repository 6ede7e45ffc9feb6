"""Deploy: one finished run becomes an endpoint; its steps, its container's log."""

import streamlit as st

from pages.parts.kit import reads
from pages.parts.kit.guard import end_page
from pages.parts.kit.links import link
from pages.parts.kit.notices import draw_empty
from pages.parts.kit.state import url_id
from pages.parts.serve.deploy import draw_form
from pages.parts.serve.deployment import draw_deploy

st.title("Deploy", anchor=False)

conn = reads.find_connection()
if conn is None:
    draw_empty("Choose a workspace first.", link("connect"), "Go to Connect")
    end_page()

if endpoint := url_id("endpoint"):
    draw_deploy(endpoint)
else:
    draw_form(conn)
