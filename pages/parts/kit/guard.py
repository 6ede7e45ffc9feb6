"""Runs a page's code so that what goes wrong becomes a sentence: the only broad handler of the pages."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from core.errors import TunedeckError
from pages.parts.kit.links import Link
from pages.parts.kit.state import ui

log = logging.getLogger("tunedeck.pages")

Then = Link | Callable[[Any], Link | None] | None


class PageEnd(Exception):
    """The rest of this page has nothing to draw; the frame is still drawn."""


def end_page() -> NoReturn:
    """Leave the page's script here. `st.stop` would leave out what the frame draws after the page."""
    raise PageEnd


@contextmanager
def caught(keep: Callable[[TunedeckError], Any]) -> Iterator[None]:
    """Hand what goes wrong inside to `keep` as a sentence."""
    try:
        yield
    except PageEnd:
        return
    except TunedeckError as error:
        keep(error)
    except Exception as error:
        log.exception("a page failed")
        keep(fault(error))


def fault(error: BaseException) -> TunedeckError:
    """Return the sentence for an unforeseen exception."""
    return TunedeckError(
        f"Tunedeck has a fault: {type(error).__name__} was not handled.",
        "Nothing was lost. Reload the page; if it stays, report it with the details below.",
        "".join(traceback.format_exception(error)[-6:]),
    )


def run_callback(key: str, fn: Callable[..., Any], args: tuple[Any, ...] = (), then: Then = None) -> None:
    """Call `fn(*args)` for the widget `key`, and go where `then`, or an answer that is a link, leads.

    An error is kept under the key. then: a link, or a function of the answer that returns one.
    """
    here = ui()
    here.errors.pop(key, None)
    target: Link | None = None
    with caught(lambda error: here.errors.__setitem__(key, error)):
        answer = fn(*args)
        leads_to = then(answer) if callable(then) else then or answer
        target = leads_to if isinstance(leads_to, Link) else None
    if key not in here.errors and here.open_dialog == key:
        here.open_dialog = None
    if target is not None:
        target.go()
