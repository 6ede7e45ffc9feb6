"""The set-up in a real browser: from the first click to Launch, a broken file, a new compute."""

from __future__ import annotations

import json
import re
import urllib.request
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.pages.axe import list_serious
from tests.pages.conftest import Dashboard, open_from_menu, settle
from tests.tiny_model import build_tiny_model

pytestmark = pytest.mark.browser

GOOD = {"messages": [{"role": "user", "content": "Is it open?"}, {"role": "assistant", "content": "At nine, friend."}]}


def write_rows(path: Path, count: int = 20, broken_line: int = 0) -> Path:
    lines = [json.dumps(GOOD) for _ in range(count)]
    if broken_line:
        lines[broken_line - 1] = '{"messages": [{"role": "user", "content": "![x](http://127.0.0.1:1/x.png) :red[a]"}'
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def click(page: Page, name: str) -> None:
    page.get_by_role("button", name=name).first.click()


def expect_page(page: Page, heading: str) -> None:
    expect(page.get_by_role("heading", name=heading, level=1)).to_be_visible()


def test_the_preselected_set_up_takes_three_clicks_to_launch(page: Page, dashboard: Dashboard) -> None:
    page.goto(dashboard.url)
    click(page, "Start on this machine")
    expect_page(page, "Model & compute")
    expect(page.get_by_text("Eligible")).to_be_visible()
    click(page, "Use these")
    expect_page(page, "Data")
    expect(page.get_by_role("button", name="Use this data")).to_be_enabled()
    page.keyboard.press("Control+Enter")
    expect_page(page, "Launch")
    assert "draft=" in page.url
    open_from_menu(page, "Data")
    expect_page(page, "Data")
    expect(page.get_by_role("button", name="Use this data")).to_be_enabled()


def test_a_model_that_runs_on_azure_says_why_it_cannot_be_trained_here(page: Page, dashboard: Dashboard) -> None:
    page.goto(f"{dashboard.url}/model?at=local")
    page.get_by_text("Phi-4", exact=True).click()
    expect(page.get_by_text("Phi-4 cannot be trained here: it runs on Azure.")).to_be_visible()
    expect(page.get_by_role("button", name="Use these")).to_be_disabled()
    page.get_by_text("tiny-chat", exact=True).click()
    expect(page.get_by_role("button", name="Use these")).to_be_enabled()


def test_a_model_is_found_and_chosen_by_the_keyboard_and_the_search_is_in_the_address(
    page: Page, dashboard: Dashboard
) -> None:
    page.goto(f"{dashboard.url}/model?at=local&show=")
    page.get_by_role("radio", name="tiny-chat").wait_for()
    page.get_by_label("Search models").focus()
    page.keyboard.type("phi-4")
    expect(page.get_by_text("1 model", exact=True)).to_be_visible()
    expect(page).to_have_url(re.compile("q=phi-4"))
    page.get_by_role("radio", name="Phi-4").focus()
    page.keyboard.press("Space")
    expect(page.get_by_text("Phi-4 cannot be trained here: it runs on Azure.")).to_be_visible()
    page.get_by_label("Search models").fill("")
    page.get_by_text("tiny-chat", exact=True).click()
    expect(page.get_by_role("button", name="Use these")).to_be_enabled()


def test_a_compute_is_created_in_place_and_can_be_chosen(page: Page, dashboard: Dashboard) -> None:
    page.goto(f"{dashboard.url}/model?at=local")
    click(page, "Create compute")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text("$0.00/h: this is your own machine.")).to_be_visible()
    name = dialog.get_by_label("Name")
    name.fill("second-one")
    name.press("Tab")
    settle(page)
    dialog.get_by_role("button", name="Create compute").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_role("radio", name="second-one")).to_be_visible()


def test_a_model_is_looked_at_before_it_is_added(page: Page, dashboard: Dashboard, tmp_path: Path) -> None:
    folder = build_tiny_model(tmp_path, name="mine")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "own.Model"}}))
    (folder / "chat_template.jinja").unlink()
    page.goto(f"{dashboard.url}/model?at=local")
    click(page, "Add a model")
    dialog = page.get_by_role("dialog")
    look = dialog.get_by_role("button", name="Look at it")
    look.click()
    expect(dialog.get_by_text("No model is named.")).to_be_visible()
    for typed, said in (
        ("/nowhere", "There is no folder /nowhere on this machine."),
        (str(folder), "Code · failed: It wants code of its own (auto_map in config.json), which is never run here."),
    ):
        dialog.get_by_label("Model", exact=True).fill(typed)
        dialog.get_by_label("Model", exact=True).press("Tab")
        look.click()
        dialog.get_by_label("Model", exact=True).fill("what is typed as the answer comes")
        expect(dialog.get_by_text(said)).to_be_visible()
        settle(page)
        expect(dialog.get_by_label("Model", exact=True)).to_have_value("what is typed as the answer comes")
    expect(dialog.get_by_text("Chat template · failed: It has no chat template")).to_be_visible()
    expect(dialog.get_by_role("button", name="Add ")).to_be_disabled()
    settle(page)
    assert list_serious(page) == []


def test_a_broken_line_blocks_and_is_named_with_its_fix(page: Page, dashboard: Dashboard, tmp_path: Path) -> None:
    page.goto(f"{dashboard.url}/data?at=local")
    page.get_by_text("Upload", exact=True).click()
    broken = write_rows(tmp_path / "mine.jsonl", broken_line=7)
    page.locator("input[type=file]").first.set_input_files(broken)
    expect(page.get_by_role("heading", name="Findings")).to_be_visible()
    expect(page.get_by_text("Not JSON · line 7")).to_be_visible()
    expect(page.get_by_text("Fix 1 error first.")).to_be_visible()
    expect(page.get_by_role("button", name="Use this data")).to_be_disabled()
    page.reload()
    expect(page.get_by_text("Not JSON · line 7")).to_be_visible()
    settle(page)
    page.get_by_text("Repair", exact=True).click()
    with page.expect_download() as download:
        click(page, "Download the repaired file")
    kept = download.value.path().read_text(encoding="utf-8").splitlines()
    assert len(kept) == 19, "the broken line is left out; the copies, most of the file, are not by themselves"


def test_a_good_file_can_be_used(page: Page, dashboard: Dashboard, tmp_path: Path) -> None:
    page.goto(f"{dashboard.url}/data?at=local")
    page.get_by_text("Upload", exact=True).click()
    page.locator("input[type=file]").first.set_input_files(write_rows(tmp_path / "few.jsonl", 12))
    expect(page.get_by_text("few.jsonl · ")).to_be_visible()
    assert count_uploaded_bytes(dashboard) == 0, "the dashboard keeps what lies in the home"
    click(page, "Choose another")
    expect(page.locator("input[type=file]")).to_have_count(2)
    page.locator("input[type=file]").first.set_input_files(write_rows(tmp_path / "good.jsonl", 40))
    expect(page.get_by_text("good.jsonl · ")).to_be_visible()
    expect(page.get_by_role("heading", name="Conversations")).to_be_visible()
    kept = [one.read_bytes() for one in (dashboard.home / "datasets" / ".given").iterdir()]
    assert (tmp_path / "good.jsonl").read_bytes() in kept
    assert (tmp_path / "few.jsonl").read_bytes() not in kept, "a file that was let go stays in the home"
    click(page, "Use this data")
    expect_page(page, "Launch")


def test_the_hub_out_of_reach_is_said_with_the_way_round(page: Page, dashboard: Dashboard) -> None:
    page.goto(f"{dashboard.url}/data?at=local")
    page.get_by_text("Hugging Face", exact=True).click()
    page.get_by_label("Data set").fill("HuggingFaceH4/ultrachat_200k")
    click(page, "Fetch and check")
    expect(page.get_by_text("huggingface.co cannot be reached from this machine.")).to_be_visible()
    expect(page.get_by_text("Upload a file, or use the bundled sample.")).to_be_visible()


def count_uploaded_bytes(dashboard: Dashboard) -> int:
    """Return how much of what browsers sent Streamlit holds in memory, by its own account."""
    with urllib.request.urlopen(f"{dashboard.url}/_stcore/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    assert any(line.startswith("# TYPE cache_memory_bytes ") for line in lines), "Streamlit gives no account"
    return sum(int(float(line.rpartition(" ")[2])) for line in lines if "UploadedFileManager" in line)


HOSTILE = (
    "<img src=http://127.0.0.1:1/a.png onerror=alert(1)><script>alert(2)</script> **bold** :red[red] $x^2$ "
    "![i](http://127.0.0.1:1/b.png) [l](javascript:alert(3)) \x1b[31mansi\x1b[0m \u202etxet"
)


def test_markup_script_and_escapes_in_a_row_are_shown_as_text(page: Page, dashboard: Dashboard, tmp_path: Path) -> None:
    """In each view, and in the findings and the diff of a repair: no element, no request, no dialog comes of it."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("dialog", lambda dialog: (asked.append(f"dialog {dialog.message}"), dialog.dismiss()))
    said = [{"role": "user", "content": HOSTILE}, {"role": "assistant", "content": HOSTILE}]
    rows = [json.dumps({"messages": said, "tools": [{"name": HOSTILE}]})]
    rows += [json.dumps(GOOD).replace("open", f"open {number}") for number in range(20)] + [HOSTILE]
    (tmp_path / "hostile.jsonl").write_text("\n".join(rows), encoding="utf-8")
    page.goto(f"{dashboard.url}/model?at=local")
    expect(page.get_by_text("Eligible")).to_be_visible()  # the tiny model is chosen: its tokenizer is here
    open_from_menu(page, "Data")
    page.get_by_text("Upload", exact=True).click()
    page.locator("input[type=file]").first.set_input_files(tmp_path / "hostile.jsonl")
    expect(page.get_by_role("heading", name="Conversations")).to_be_visible()
    expect(page.get_by_text(HOSTILE[:70]).filter(visible=True).first).to_be_visible()
    expect(page.get_by_text("␛[31mansi␛[0m \\u202etxet").filter(visible=True).first).to_be_visible()
    expect_nothing_alive(page, asked)
    page.get_by_text("Chat and JSON", exact=True).click()
    expect(page.get_by_text("\\u001b[31mansi").filter(visible=True).first).to_be_visible()
    expect_nothing_alive(page, asked)
    page.get_by_text("As the model sees it", exact=True).click()
    tokens = page.locator(".tokens").first
    expect(tokens).to_contain_text("<script>alert(2)</script>")
    expect(tokens.locator("ins").first).to_contain_text("<img src=")
    expect_nothing_alive(page, asked)
    page.get_by_text("Repair", exact=True).click()
    expect(page.get_by_text("left out", exact=False).filter(visible=True).first).to_be_visible()
    expect_nothing_alive(page, asked)


def expect_nothing_alive(page: Page, asked: list[str]) -> None:
    """Nothing of the row became an element, was fetched, or spoke."""
    settle(page)
    alive = page.get_by_test_id("stMain").locator("[src*='127.0.0.1:1/'], script, a[href^=javascript], .katex")
    expect(alive).to_have_count(0)
    expect(page.get_by_test_id("stMain").get_by_text("bold", exact=True)).to_have_count(0)
    assert [url for url in asked if "127.0.0.1:1/" in url or url.startswith("dialog")] == []
