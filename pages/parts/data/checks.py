"""The checks that take longer than reading, followed while they run in a process of their own."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from core import dataset as datasets
from core.dataset import ChatDataset, Checks
from pages.parts.kit import reads, words
from pages.parts.kit.action import action
from pages.parts.kit.live import live
from pages.parts.kit.notices import draw_warning

_STARTS_IN_S = 20.0


def follow(dataset: ChatDataset, tokenizer: Path | None) -> None:
    """Begin what is missing, and say how far it is; nothing is drawn when all is through."""
    now = datasets.read_checks(dataset, tokenizer)
    if now.done:
        return
    asked = f"{dataset.key}:{tokenizer}"
    if _stands_still(now, asked):
        draw_warning(f"{_missing(now)} did not come to an end. What is shown is complete without it.", key="checks")
        action("Check again", reads.end_work, "checks", asked, key="check-again", icon="refresh")
        return
    reads.run_once("checks", asked, lambda: datasets.start_checks(dataset, tokenizer))
    live(lambda: _draw_progress(dataset, tokenizer, asked), key="checks", run_every=1.0, token=_token(now, asked))


def _draw_progress(dataset: ChatDataset, tokenizer: Path | None, asked: str) -> object:
    now = datasets.read_checks(dataset, tokenizer)
    if now.progress is not None:
        st.progress(now.progress.fraction or 0.0, text=words.plain(now.progress.words))
    else:
        st.caption(f"{_missing(now)} begins. You can go on meanwhile.")
    return _token(now, asked)


def _token(now: Checks, asked: str) -> object:
    return (now.text, now.near, now.tokens, _stands_still(now, asked))


def _stands_still(now: Checks, asked: str) -> bool:
    """Whether its process is gone; one that was just started is not seen to run before it has taken its lock."""
    begun = reads.find_work("checks", asked)
    return not now.running and begun is not None and begun.age_s is not None and begun.age_s > _STARTS_IN_S


def _missing(now: Checks) -> str:
    """Return the first check that is not through, as the subject of a sentence."""
    if not now.text:
        return "The look at the texts"
    return "The count of tokens" if not now.tokens else "The search for near copies"
