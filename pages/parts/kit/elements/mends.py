"""What Streamlit 1.67 draws too faint to read, leaves out of reach of a keyboard or out of the address, mended.

To be read, text needs 4.5:1 (WCAG 2.2, 1.4.3). The key in a button has 3.5:1 (light) and 2.8:1 (dark); in the dark a
chosen segment, a chosen pill and a slider's value have 3.6:1, in the primary colour, and a bare button 3.9:1 under the
mouse and 1.9:1 while it is open; in the light strings of a program have 2.9:1, and those of JSON less. No theme colour
mends them: white on the primary colour has to be read, too. They are drawn in the text's colour; what is chosen keeps
its ground and border. A program or a log that scrolls gets a stop of the Tab key: arrows scroll what has the focus.

A link to the page that is open is drawn, and the address left as it was: the next click, or a reload, was for the old
one. So the browser goes to the link's address as it goes back to one: the script could not tell it to without undoing
what was typed meanwhile.
"""

from __future__ import annotations

import streamlit as st

_READ = """
.stButton kbd { opacity: 1; }
:root [data-testid="stButtonGroup"] button[data-selected="true"]:not([disabled]),
:root [data-testid="stSlider"] [data-testid="stSliderThumbValue"],
:root [data-testid="stCode"] .token { color: inherit; }
:root [data-testid="stJson"] [style] { color: inherit !important; }
:root [kind="tertiary"]:not([disabled]):is(:hover, :active, [aria-expanded="true"]) {
  color: inherit; text-decoration: underline; }
"""
_JS = """
export default function () {
  const follow = (event) => {
    const link = event.target.closest('a[data-testid="stPageLink-NavLink"]');
    const [page, query = ""] = link ? link.getAttribute("href").split("?") : [];  // that of Overview has no name
    if (page !== location.pathname.split("/").pop() || query === location.search.slice(1)) return;
    event.preventDefault();
    event.stopPropagation();
    history.pushState({}, "", location.pathname + (query && `?${query}`));
    dispatchEvent(new PopStateEvent("popstate"));
  };
  document.addEventListener("click", follow, true);
  const reach = () => document.querySelectorAll('[data-testid="stCode"] pre:not([tabindex])').forEach((each) => {
    if (each.scrollHeight > each.clientHeight || each.scrollWidth > each.clientWidth) each.tabIndex = 0;
  });
  const watch = new MutationObserver(reach);
  watch.observe(document.body, { childList: true, subtree: true, attributeFilter: ["open"] });
  reach();
  return () => {
    watch.disconnect();
    document.removeEventListener("click", follow, true);
  };
}
"""
_mends = st.components.v2.component("tunedeck.mends", css=_READ, js=_JS, isolate_styles=False)


def mend() -> None:
    """Have the whole page mended; takes no room."""
    _mends(key="mends", width="content")
