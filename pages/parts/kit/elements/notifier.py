"""The browser's own notifications: leave is asked by a click, and each alert is shown once over all tabs of a browser.

They come while a tab is open; a webhook needs none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from pages.parts.kit.state import ui

_STYLE = """
:host { font: 0.875rem var(--st-font); color: var(--st-text-color); }
button { font: inherit; color: inherit; background: transparent; cursor: pointer; min-height: 2.5rem;
  padding: 0.25rem 0.75rem; border: 1px solid var(--st-border-color);
  border-radius: var(--st-button-radius, 0.375rem); }
button:hover { color: var(--st-link-color); border-color: var(--st-link-color); }
button:focus-visible { outline: 2px solid var(--st-primary-color); }
p { margin: 0 0 0.5rem; }
"""
_ASK = """
const SAID = {
  none: "This browser shows no notifications for this page: that takes https, or an address of its own machine.",
  denied: "Notifications of this address are blocked. Allow them in the browser's settings of the site, behind the "
    + "symbol beside the address, and load the page again.",
  granted: "This browser notifies you while a tab of Tunedeck is open.",
  default: "While a tab of Tunedeck is open, this browser can notify you.",
};
export default function ({ parentElement }) {
  if (!parentElement.querySelector("p")) {
    parentElement.append(document.createElement("p"), document.createElement("button"));
  }
  const [said, button] = parentElement.querySelectorAll("p, button");
  said.setAttribute("role", "status");
  const draw = () => {
    const now = "Notification" in window && window.isSecureContext ? Notification.permission : "none";
    said.textContent = SAID[now];
    button.textContent = now === "granted" ? "Show one" : "Notify me in this browser";
    button.hidden = now === "none" || now === "denied";
  };
  button.onclick = async () => {
    if (await Notification.requestPermission() === "granted") {
      new Notification("Tunedeck", { body: "Alerts look like this." });
      window.dispatchEvent(new Event("tunedeck-notifies"));
    }
    draw();
  };
  draw();
}
"""
_SHOW = """
const MOST = 3;
export default function ({ data, setStateValue }) {
  if (!("Notification" in window)) return;
  const report = () => {
    if (Notification.permission === "granted" && !data.known) setStateValue("granted", true);
  };
  const takeNew = () => {
    const last = localStorage.getItem(data.key);
    if (last === null || data.newest > Number(last)) localStorage.setItem(data.key, data.newest);
    return last === null ? [] : data.alerts.filter((each) => each.number > Number(last));
  };
  const show = (found) => {
    const many = [`${found.length} things happened: see Activity.`];
    const texts = found.length > MOST ? many : found.map((each) => each.text);
    texts.forEach((body, at) => {
      const shown = new Notification("Tunedeck", { body, tag: `tunedeck-${found[at].number}` });
      shown.onclick = () => window.focus();
    });
  };
  report();
  if (Notification.permission === "granted" && data.known) {
    if (navigator.locks) navigator.locks.request(data.key, takeNew).then(show);
    else show(takeNew());
  }
  window.addEventListener("tunedeck-notifies", report);
  return () => window.removeEventListener("tunedeck-notifies", report);
}
"""
_ask = st.components.v2.component("tunedeck.ask", css=_STYLE, js=_ASK)
_show = st.components.v2.component("tunedeck.notify", js=_SHOW)


def draw_permission() -> None:
    """Draw whether this browser notifies, and the button that asks for leave."""
    _ask(key="ask-notifications")


def notify(home: str, alerts: Sequence[Mapping[str, object]], newest: int) -> None:
    """Have the browser show each alert ({number, text}) that no tab has shown; takes no room.

    home: whose alerts they are. newest: the highest number of all, by which a browser that is asked for the first time
    knows what is old. `Ui.notifies` tells from then on whether it may.
    """

    def remember() -> None:
        ui().notifies = True

    data = {"key": f"tunedeck.alerts.{home}", "alerts": list(alerts), "newest": newest, "known": ui().notifies}
    _show(key="notifier", data=data, width="content", on_granted_change=remember)
