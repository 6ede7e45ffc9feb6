"""The data page in a real browser: what is open and what is typed stays when a check brings what it found."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from core import dataset
from core.dataset.checks.longer_checks import COUNTED_AT_ONCE, run_checks
from core.launch import drafts
from core.locks import held
from tests.pages.conftest import Dashboard, settle
from tests.pages.data.test_data_page import planted, say
from tests.waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.slow]
ROWS = 200


def prepare_large() -> tuple[str, dataset.ChatDataset]:
    """Return data whose tokens are not counted at once, with a copy of a row and an address of a person."""
    long = "a word " * (COUNTED_AT_ONCE // ROWS // 7)
    lines = [say(f"question {number}", f"{number}: {long}") for number in range(1, ROWS + 1)]
    lines[4] = say("Write to ana.maier@example.com", long)
    lines[8] = lines[7]
    return prepare("large.jsonl", "\n".join(lines).encode())


def prepare(name: str, rows: bytes) -> tuple[str, dataset.ChatDataset]:
    """Return the id of the check of these rows, and the data as it leaves it."""
    begun = dataset.start_upload(name, rows, say("x", "y").encode())
    return begun.id, wait_until(lambda: dataset.read_preparation(begun.id).dataset)


@pytest.fixture(autouse=True)
def home(dashboard: Dashboard, base_models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The dashboard's home, which is this process's, too."""
    monkeypatch.setenv("TUNEDECK_HOME", str(dashboard.home))
    monkeypatch.setenv("TUNEDECK_BASE_MODELS", str(base_models))
    return dashboard.home


def test_what_is_open_and_typed_and_the_page_of_rows_stay_when_a_check_ends(page: Page, dashboard: Dashboard) -> None:
    """Some seconds: 2 MB are checked and their tokens counted."""
    prep, data = prepare_large()
    draft = drafts.create_draft("local", model="tiny-chat", model_version="1")
    with held(data.folder / "analysis.lock"):  # as if a check went on elsewhere
        page.goto(f"{dashboard.url}/data?at=local&draft={draft.id}&prep={prep}&from=upload")
        page.get_by_text("Repair", exact=True).click()
        expect(page.get_by_text("The copy is left out.").filter(visible=True).last).to_be_visible()
        page.get_by_role("button", name="Page 4", exact=True).click()
        expect(page.get_by_text("page 4 of 20")).to_be_visible()
        expect(page.get_by_text("begins. You can go on meanwhile.")).to_be_visible()
        page.get_by_role("button", name="Sort and filter").click()
        field = page.get_by_label("Messages from")
        field.focus()
        page.keyboard.type("12")
        settle(page)
    run_checks(data, dataset.find_tokenizer("tiny-chat", "1"))
    expect(page.get_by_text("E-mail address · ")).to_be_visible()
    expect(page.get_by_text("Tokens, about")).to_have_count(0)
    settle(page)
    expect(field).to_be_visible()
    expect(field).to_be_focused()
    expect(field).to_have_value("12")
    expect(page.get_by_text("page 4 of 20")).to_be_visible()
    expect(page.get_by_role("checkbox", name="Copy of an earlier row")).to_be_visible()


def test_the_groups_behind_the_first_stay_unfolded_when_one_is_set_aside(page: Page, dashboard: Dashboard) -> None:
    mail = say("Write to ana.maier@example.com, \a now", "I will do that at once, friend.")
    prep, data = prepare("groups.jsonl", planted() + b"\n" + mail.encode())
    run_checks(data)
    page.goto(f"{dashboard.url}/data?at=local&prep={prep}&from=upload")
    page.get_by_text(re.compile(r"^\d more$")).click()
    page.get_by_role("button", name="Not a problem here").last.click()
    expect(page.get_by_text("1 group set aside")).to_be_visible()
    settle(page)
    expect(page.get_by_text("Characters that turn the direction · ")).to_be_visible()
