"""Lets no fragment's timer undo a click on a link. The only place that changes how Streamlit works (decision 0006)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import wraps
from weakref import WeakKeyDictionary

from streamlit.proto.ClientState_pb2 import ClientState
from streamlit.runtime.app_session import AppSession


@dataclass(frozen=True)
class _Asked:
    """The page that a browser asked for last, and the one that the session drew at that time."""

    page: str
    instead_of: str


_asked: WeakKeyDictionary[AppSession, _Asked] = WeakKeyDictionary()


def ignore_late_timers() -> None:
    """Have Streamlit drop a timer's request for a page that its operator has left. Once a process.

    A browser's timers run until it hears of the new page, and each asks for the page it is on: Streamlit 1.67 draws
    that one again, and the click is lost. Only the request's own mark tells a timer from an operator.
    """
    accept = AppSession.request_rerun
    if hasattr(accept, "__wrapped__"):
        return

    @wraps(accept)
    def accept_unless_late(self: AppSession, client_state: ClientState | None) -> None:
        if client_state is not None and client_state.is_auto_rerun:
            if client_state.page_script_hash not in {"", current_page(self)}:
                return
        elif client_state is not None and not client_state.fragment_id:
            _asked[self] = _Asked(client_state.page_script_hash, self.page_script_hash)
        accept(self, client_state)

    AppSession.request_rerun = accept_unless_late  # type: ignore[method-assign]


def current_page(session: AppSession) -> str:
    """Return the hash of the page that was asked for, until a page has begun since; then of that one."""
    asked = _asked.get(session)
    if asked and asked.page and asked.instead_of == session.page_script_hash:
        return asked.page
    return session.page_script_hash
