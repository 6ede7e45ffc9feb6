"""The data page without a browser: findings, rows, filters, a jump, the model's view, and text that stays text."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from core import dataset
from core.launch import drafts
from pages.parts.kit.reads import run_once
from tests.pages.apps import buttons, open_app, run_until, texts

HOSTILE = "<img src=x onerror=alert(1)> **bold** ![i](http://127.0.0.1:1/x.png) :red[a] \x1b[31mred\x1b[0m \u202etxet"


def say(question: str, answer: str) -> str:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": messages}, ensure_ascii=False)


def planted() -> bytes:
    """Return 40 rows: line 7 is no JSON, line 12 is empty, line 21 a copy of 20, line 30 hostile, line 35 very long."""
    lines = [say(f"question {number}", f"the answer of number {number}") for number in range(1, 41)]
    lines[6] = '{"messages": ['
    lines[11] = '{"messages": []}'
    lines[20] = lines[19]
    lines[29] = say(HOSTILE, HOSTILE)
    lines[34] = say("long", "word " * 3000)
    return "\n".join(lines).encode()


@pytest.fixture(scope="module")
def prep(home: Path) -> str:
    """The id of the check of the planted file."""
    return dataset.start_upload("planted.jsonl", planted(), say("a", "b").encode()).id


def open_data(**ids: str) -> AppTest:
    draft = drafts.create_draft("local", model="tiny-chat", model_version="1")
    return run_until(open_app("data", at="local", draft=draft.id, **ids), lambda app: len(app.metric) == 4)


def links_of(app: AppTest) -> list[str]:
    """Return what the address holds, as "name=value"."""
    return [f"{name}={value[0] if isinstance(value, list) else value}" for name, value in app.query_params.items()]


def find_field(found: Sequence[Any], label: str) -> Any:
    """Return the field with this label."""
    return next(each for each in found if each.label == label)


def warnings_of(app: AppTest) -> int:
    """Return how many kinds of warning the page says there are."""
    found = re.search(r"(\d+) kinds? of warning", texts(app))
    return int(found[1]) if found else 0


def opened(app: AppTest) -> list[int]:
    """Return the lines of the rows that are shown."""
    return [int(name.split()[-1]) for name in buttons(app) if name.startswith("Open ")]


def choose(app: AppTest, label: str, value: str) -> AppTest:
    """Choose in a segmented control."""
    next(one for one in app.segmented_control if one.label == label).set_value(value)
    return app.run()


def test_findings_are_groups_with_count_lines_example_fix_and_way_to_the_rows(prep: str) -> None:
    app = open_data(prep=prep, **{"from": "upload"})
    said = texts(app)
    for words in ("Not JSON · line 7", "Empty messages · line 12", "Copy of an earlier row · line 21", "Fix: "):
        assert words in said, said
    assert said.index("Not JSON") < said.index("Copy of an earlier row"), "errors stand before warnings"
    assert buttons(app)["Use this data"].disabled
    assert "Fix 2 errors first." in said
    app.button(key="show-train-duplicate").click()
    app.run()
    assert "line 21 · " in texts(app).split("Conversations")[1]
    assert opened(app) == [21]
    assert not app.exception


def test_a_group_is_set_aside_counted_folded_and_taken_back(prep: str) -> None:
    app = open_data(prep=prep, **{"from": "upload"})
    run_until(app, lambda app: app.metric[3].value == "1")  # the model's limit is read off the page, and cuts line 35
    assert "aside-train-not_json" not in [button.key for button in app.button], "an error that breaks a run cannot be"
    before = warnings_of(app)
    app.button(key="aside-train-duplicate").click()
    app.run()
    folded = next(one for one in app.expander if "set aside" in one.label)
    assert folded.label == "1 group set aside, 1 row"
    assert "Copy of an earlier row" in texts(folded)
    assert warnings_of(app) == before - 1
    app.button(key="show-train-duplicate").click()
    app.run()
    assert opened(app) == [21]
    app.button(key="take-back-train-duplicate").click()
    app.run()
    assert not [one for one in app.expander if "set aside" in one.label]
    assert warnings_of(app) == before
    assert not app.exception


def test_a_line_is_jumped_to_and_shown_whole_by_its_address(prep: str) -> None:
    app = open_data(prep=prep, row="35", **{"from": "upload"})
    assert "line 35" in texts(app)
    assert any(str(one.value).strip() == ("word " * 3000).strip() for one in app.text), "a row alone is not shortened"
    buttons(app)["Show all rows"].click()
    app.run()
    assert "Open line 1" in buttons(app)
    assert "row" not in app.query_params
    find_field(app.number_input, "Go to line").set_value(12)
    app.run()
    assert '{"messages": []}' in texts(app)
    find_field(app.number_input, "Go to line").set_value(4000)
    app.run()
    assert "There is no row on line 4,000 of the training rows." in texts(app)
    buttons(app)["Show all rows"].click().run()
    assert "Open line 1" in buttons(app)


def test_a_line_of_the_test_file_has_an_address_of_its_own(home: Path) -> None:
    tests = "\n".join(say(f"asked {number}", "an answer to all that is asked here") for number in range(1, 15))
    begun = dataset.start_upload("two.jsonl", planted(), tests.encode())
    app = open_data(prep=begun.id, row="test-12", **{"from": "upload"})
    said = texts(app).split("Conversations")[1]
    assert "asked 12" in said
    assert "question 12" not in said
    assert "row=test-12" in links_of(app)
    find_field(app.number_input, "Go to line").set_value(3)
    app.run()
    assert "row=test-3" in links_of(app)
    find_field(app.number_input, "Go to line").set_value(20)
    app.run()
    assert "There is no row on line 20 of the test rows. The training rows have one." in " ".join(texts(app).split())
    find_field(app.number_input, "Go to line").set_value(3)
    app.run()
    assert "asked 3" in texts(app).split("Conversations")[1]
    choose(app, "Rows of", "Train")
    assert "row=3" in links_of(app)
    assert "question 3" in texts(app).split("Conversations")[1]


def test_the_rows_stay_shown_while_a_check_that_ended_is_read(home: Path) -> None:
    begun = dataset.start_upload("kept.jsonl", planted())
    app = open_data(prep=begun.id, **{"from": "upload"})
    read = dataset.read_preparation(begun.id).dataset
    assert read is not None
    (read.folder / "dataset.json").touch()  # a result that came between two runs
    find_field(app.number_input, "Go to line").set_value(3)
    app.run()
    assert "row=3" in links_of(app)
    assert "question 3" in texts(app).split("Conversations")[1]


def test_a_search_goes_through_the_file_page_by_page(prep: str) -> None:
    app = open_data(prep=prep, **{"from": "upload"})
    find_field(app.text_input, "Search rows").set_value("ANSWER OF NUMBER")
    app.run()
    assert opened(app) == [1, 2, 3, 4, 5, 6, 8, 9, 10, 11]
    buttons(app)["Later hits"].click()
    app.run()
    assert opened(app) == [13, 14, 15, 16, 17, 18, 19, 20, 21, 22]
    buttons(app)["Earlier hits"].click()
    app.run()
    assert opened(app)[0] == 1
    find_field(app.text_input, "Search rows").set_value("nobody said this")
    app.run()
    assert "No row holds 'nobody said this'." in texts(app)


def test_rows_are_ten_a_page_sorted_and_kept_by_length_turns_and_role(prep: str) -> None:
    app = open_data(prep=prep, **{"from": "upload"})
    assert opened(app) == list(range(1, 11))
    find_field(app.selectbox, "Sort by").set_value("longest")
    app.run()
    assert opened(app)[:2] == [35, 30]
    find_field(app.number_input, "Length in tokens to").set_value(200)
    app.run()
    assert opened(app)[0] == 30
    assert "Only rows of 200 tokens or fewer." in texts(app)
    find_field(app.text_input, "Search rows").set_value("number 4")
    app.run()
    assert opened(app) == [40, 4]
    find_field(app.selectbox, "With").set_value("system")
    app.run()
    assert "No row holds 'number 4'." in texts(app).replace("\\", "")
    assert "of 200 tokens or fewer, with a system message." in texts(app)
    buttons(app)["Show all lengths and roles"].click()
    app.run()
    assert "Only rows of" not in texts(app)
    assert opened(app) == [40, 4]
    assert not app.exception


def test_rows_with_a_finding_are_shown_by_new_fields_which_no_late_report_reaches(
    prep: str,
) -> None:
    app = open_data(prep=prep, **{"from": "upload"})
    before = find_field(app.text_input, "Search rows").set_value("question 3").key
    app.run()
    next(button for button in app.button if button.label == "Show rows").click()
    app.run()
    search = find_field(app.text_input, "Search rows")
    assert (search.value, search.key == before) == ("", False)
    assert find_field(app.selectbox, "With the finding").value != ""


def test_what_a_row_says_is_text_with_its_unseen_characters_written_out(prep: str) -> None:
    app = open_data(prep=prep, row="30", **{"from": "upload"})
    shown = HOSTILE.replace("\x1b", "␛").replace("\u202e", "\\u202e")
    assert [one.value for one in app.text].count(shown) == 2, "as st.text, which knows no markup"
    assert not [one for one in app.markdown if "onerror" in str(one.value)]
    choose(app, "Show as", "Chat and JSON")
    assert any("<img src=x onerror=alert(1)>" in str(one.value) for one in app.code)
    assert not app.exception


def test_thoughts_calls_and_results_stand_beside_what_is_said(home: Path) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "tide", "arguments": '{"hour": 14}'}}
    turns = [
        {"role": "user", "content": "Tide?"},
        {"role": "assistant", "content": "Wait.", "reasoning_content": "At 14?", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "3 cm"},
        {"role": "assistant", "content": "Three."},
    ]
    rows = [json.dumps({"messages": turns}), *(say(f"question {number}", "an answer") for number in range(20))]
    begun = dataset.start_upload("calls.jsonl", "\n".join(rows).encode(), say("a", "b").encode())
    app = open_data(prep=begun.id, row="1", **{"from": "upload"})
    chat = [[str(one.value) for one in (*said.caption, *said.text, *said.code)] for said in app.chat_message]
    assert chat[-4:] == [
        ["Tide?"],
        ["Thought", "Said", "Calls", "At 14?", "Wait.", "tide(hour=14)"],
        ["Result of tide", "3 cm"],
        ["Three."],
    ]


def test_the_models_view_counts_learned_and_cut_tokens(prep: str) -> None:
    app = open_data(prep=prep, row="35", **{"from": "upload"})
    choose(app, "Show as", "As the model sees it")
    run_until(app, lambda app: "cut off at 512. Underlined: learned." in texts(app))
    assert "The first 3,000 tokens are shown." in texts(app)
    assert not app.exception


def test_what_a_run_goes_through_and_what_it_costs_stands_beside_the_numbers(home: Path) -> None:
    """About 2 s: the price is the local workspace's."""
    lines = [say(f"what is {number}", f"it is {number}") for number in range(100)]
    begun = dataset.start_upload("costs.jsonl", "\n".join(lines).encode(), say("x", "y").encode())
    app = run_until(open_data(prep=begun.id, **{"from": "upload"}), lambda app: "epochs = " in texts(app))
    tokens, total = re.search(r"([\d,]+) tokens × 2 epochs = ([\d,]+); price unknown until", texts(app)).groups()  # type: ignore[union-attr]
    assert 2 * int(tokens.replace(",", "")) == int(total.replace(",", ""))
    draft = drafts.create_draft("local", model="tiny-chat", model_version="1", compute="this-machine")
    app = open_app("data", at="local", draft=draft.id, prep=begun.id, **{"from": "upload"})
    run_until(app, lambda app: re.search(r"= [\d,]+; .* (s|min), \$0.00 on this-machine\.", texts(app)) is not None)
    assert "List price" not in texts(app)
    assert not app.exception


def test_languages_roles_and_turns_are_counted(prep: str) -> None:
    app = run_until(open_data(prep=prep, **{"from": "upload"}), lambda app: len(app.table) >= 3)
    said = " ".join(str(table.value) for table in app.table)
    assert "assistant" in said
    assert "Language" in said


def test_a_repair_shows_what_it_changes_as_a_diff_and_makes_the_next_version(prep: str) -> None:
    app = open_data(prep=prep, **{"from": "upload"})
    run_until(app, lambda app: any(str(one.value).startswith('-{"messages"') for one in app.code))
    assert "line 7 · Not JSON · left out" in texts(app)
    buttons(app)["Use a repaired copy"].click()
    app.run()
    run_until(app, lambda app: len(app.metric) == 4 and app.metric[0].value in ("37", "38"))
    assert not buttons(app)["Use this data"].disabled
    run_until(app, lambda app: any("Compare with the version before" in one.label for one in app.expander))
    run_until(app, lambda app: "are gone" in texts(app))
    assert not app.exception


def mendable(question: str) -> bytes:
    """Return 60 rows: one is no JSON, four have a blank answer, one has no user."""
    lines = [say(f"{question} {number}", f"the answer of {number}") for number in range(60)]
    lines[3] = '{"messages": ['
    lines[10:14] = [say(f"{question} {number}", " ") for number in range(10, 14)]
    alone = [{"role": "system", "content": "Be kind."}, {"role": "assistant", "content": "Hello."}]
    lines[20] = json.dumps({"messages": alone})
    return "\n".join(lines).encode()


def test_ticks_of_repairs_are_those_of_one_data_set(home: Path) -> None:
    for name in ("one", "other"):
        lines = [say(f"{name} {number}", f"the answer of {number}") for number in range(60)]
        dataset.start_upload(f"{name}.jsonl", "\n".join([*lines, lines[0]]).encode(), say("x", "y").encode())
    app = take_known(choose(open_data(), "Where the data comes from", "Used before"), "other")  # its repairs are known
    choices_of(take_known(app, "one"))["duplicate"].uncheck().run()
    assert choices_of(take_known(app, "other"))["duplicate"].value


def take_known(app: AppTest, name: str) -> AppTest:
    """Choose data that was used before, and wait for its repairs."""
    field = find_field(app.selectbox, "Data on this machine")
    field.set_value(next(each for each in field.options if each.startswith(f"{name} · "))).run()
    return run_until(app, lambda app: f"\n{name} · " in texts(app) and "duplicate" in choices_of(app))


def test_a_repair_that_is_ticked_right_before_the_click_is_in_the_copy(home: Path) -> None:
    begun = dataset.start_upload("late.jsonl", mendable("late"), say("x", "y").encode())
    app = run_until(open_data(prep=begun.id, **{"from": "upload"}), lambda app: len(choices_of(app)) == 3)
    run_until(app, lambda app: "Use a repaired copy" in buttons(app))
    choices_of(app)["not_json"].uncheck()
    buttons(app)["Use a repaired copy"].click().run()
    assert "No repair is ticked." in texts(app)
    choices_of(app)["not_json"].check().run()
    choices_of(app)["blank_content"].check()
    buttons(app)["Use a repaired copy"].click().run()
    run_until(app, lambda app: len(app.metric) == 4 and app.metric[0].value == "55")


def test_a_repair_that_leaves_out_many_rows_or_rows_that_may_be_right_is_not_ticked_by_itself(home: Path) -> None:
    begun = dataset.start_upload("many.jsonl", mendable("question"), say("x", "y").encode())
    app = run_until(open_data(prep=begun.id, **{"from": "upload"}), lambda app: len(choices_of(app)) == 3)
    choices = choices_of(app)
    assert {key: choice.value for key, choice in choices.items()} == {
        "not_json": True,
        "blank_content": False,
        "no_user": False,
    }
    many, judged = (choices[code].label.replace("\\", "") for code in ("blank_content", "no_user"))
    assert many.startswith("Blank message: changes 0 rows, leaves out 4. ")
    assert many.endswith("Not ticked: it leaves out over 5% of a file's rows.")
    assert judged.endswith("Not ticked: such rows may be right as they are.")
    run_until(app, lambda app: {"Download the repaired file", "Download the repaired test file"} <= downloads_of(app))
    choices["blank_content"].check()
    app.run()
    app.button(key="aside-train-no_user").click().run()  # what is left to mend is counted anew
    run_until(app, lambda app: len(choices_of(app)) == 2)
    assert choices_of(app)["blank_content"].value


def choices_of(app: AppTest) -> dict[str, Any]:
    """Return the boxes of the repairs, by what they mend."""
    return {str(one.key).rpartition("-")[2]: one for one in app.checkbox if str(one.key).startswith("mend-")}


def downloads_of(app: AppTest) -> set[str]:
    return {one.proto.label for one in app.get("download_button")}


def test_the_longer_checks_run_by_themselves_and_what_they_find_is_shown(home: Path) -> None:
    """About 3 s: a process of its own looks for personal data."""
    lines = [say(f"q {number} of many", f"a {number} to all") for number in range(30)]
    lines[4] = say("Write to ana.maier@example.com", "I will.")
    begun = dataset.start_upload("mail.jsonl", "\n".join(lines).encode(), say("x", "y").encode())
    app = open_data(prep=begun.id, **{"from": "upload"})
    run_until(app, lambda app: "E-mail address · line 5" in texts(app))
    assert "ana.maier@example.com" not in texts(app).split("Conversations")[0], "an example does not spread it"


@pytest.fixture
def folder(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the server that may be read, with a table whose columns say nothing of what they are."""
    rows = [{"a": f"question {number}", "b": f"answer {number}", "c": "a note"} for number in range(40)]
    (tmp_path / "odd.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    monkeypatch.setenv("TUNEDECK_DATA_FOLDERS", str(tmp_path))
    return tmp_path


def test_a_kind_that_both_files_have_is_counted_once(home: Path) -> None:
    """Two groups of one kind are shown, one for each file."""
    unlearned = say("where is the key {}", "it hangs by door {}").replace('"assistant"', '"assistant", "weight": 0')
    learned = say("and the lamp?", "beside it").removeprefix('{"messages": [')
    row = unlearned.removesuffix("]}") + ", " + learned
    rows = [row.replace("{}", str(number)) for number in range(20)]
    begun = dataset.start_upload("unlearned.jsonl", "\n".join(rows[:15]).encode(), "\n".join(rows[15:]).encode())
    app = open_data(prep=begun.id, **{"from": "upload"})
    assert "1 kind of hint. None of them blocks." in texts(app)
    assert "5 rows: line 1, 2, 3, 4, 5 of the test file" in texts(app)


def test_a_file_of_the_server_is_read_its_mapping_corrected_and_split_as_asked(folder: Path) -> None:
    app = open_data()
    choose(app, "Where the data comes from", "Path")
    run_until(app, lambda app: "Read and check" in buttons(app))
    assert str(folder) in texts(app)
    app.number_input(key="split-percent-path").set_value(25)
    app.number_input(key="split-seed-path").set_value(7)
    app.selectbox(key="path-train").set_value(str(folder / "odd.jsonl"))
    buttons(app)["Read and check"].click()
    app.run()
    run_until(app, lambda app: "Not recognised. " in texts(app))
    assert "Recognised as" not in texts(app)
    assert buttons(app)["Use this data"].disabled
    buttons(app)["Read it so"].click()
    app.run()
    assert "A question and an answer are needed." in texts(app)
    find_field(app.selectbox, "Question").set_value("a")
    find_field(app.selectbox, "Answer").set_value("b")
    app.run()
    assert "answer 0" in texts(app), "the first conversation is shown as it would be read"
    buttons(app)["Read it so"].click()
    app.run()
    run_until(app, lambda app: len(app.metric) == 4 and app.metric[1].value == "10")
    assert app.metric[0].value == "30"
    assert "Read as you set it" in texts(app)
    assert "and the seed 7" in texts(app)
    assert not app.exception


def test_what_was_chosen_stays_so_while_the_folder_is_looked_through_again(folder: Path) -> None:
    (folder / "another.jsonl").write_text("{}", encoding="utf-8")
    app = open_data()
    choose(app, "Where the data comes from", "Path")
    run_until(app, lambda app: "Read and check" in buttons(app))
    app.selectbox(key="path-train").set_value(str(folder / "odd.jsonl"))
    app.number_input(key="split-percent-path").set_value(20).run()
    (folder / "late.jsonl").write_text("{}", encoding="utf-8")
    enough = threading.Event()
    try:
        for number in range(8):  # so that the listing takes longer than a run of the page
            run_once("busy", f"{folder}:{number}", enough.wait)
        buttons(app)["Look again"].click().run()
    finally:
        enough.set()
    late = str(folder / "late.jsonl")
    run_until(app, lambda app: "Read and check" in buttons(app) and late in app.selectbox(key="path-train").options)
    assert app.selectbox(key="path-train").value == str(folder / "odd.jsonl")
    assert app.number_input(key="split-percent-path").value == 20


def test_the_same_rows_under_another_name_and_in_another_shape_are_said_to_be_so(folder: Path) -> None:
    asked = [f"question {number}" for number in range(12)]
    turns = [{"conversations": [{"from": "human", "value": one}, {"from": "gpt", "value": "yes"}]} for one in asked]
    (folder / "shared.jsonl").write_text("\n".join(map(json.dumps, turns)), encoding="utf-8")
    rows = [{"messages": [{"role": "user", "content": one}, {"role": "assistant", "content": "yes"}]} for one in asked]
    (folder / "plain.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    app = open_data()
    choose(app, "Where the data comes from", "Path")
    run_until(app, lambda app: "Read and check" in buttons(app))
    for name, shape in (("plain", "Recognised as Messages"), ("shared", "Recognised as ShareGPT")):
        app.selectbox(key="path-train").set_value(str(folder / f"{name}.jsonl"))
        buttons(app)["Read and check"].click()
        app.run()
        run_until(app, lambda app, title=f"{name} · ": title in texts(app))
        assert shape in texts(app)
    assert not app.exception


def test_a_cancelled_check_says_that_nothing_is_kept(home: Path) -> None:
    rows = "\n".join(say(f"question {number}", "an answer " * 30) for number in range(60_000))
    begun = dataset.start_upload("large.jsonl", rows.encode())
    worker = json.loads((home / "datasets" / ".preparing" / begun.id / "process.json").read_text())["pid"]
    os.killpg(worker, signal.SIGSTOP)  # it waits for the page, however long that takes to open
    app = open_app("data", at="local", prep=begun.id, **{"from": "upload"})
    assert "Cancel check" in buttons(app), texts(app)
    buttons(app)["Cancel check"].click()
    app.run()
    assert "The check was cancelled. Nothing of it is kept." in texts(app)
    assert not app.exception


def find_area(app: AppTest, label: str) -> Any:
    return find_field(app.text_area, label)


def test_an_opened_row_is_edited_or_left_out_and_a_copy_has_that(home: Path) -> None:
    lines = [say(f"asked {number}\r\n{HOSTILE}", f"what is said to it: {number}") for number in range(40)]
    begun = dataset.start_upload("mine.jsonl", "\n".join(lines).encode(), say("x", "y").encode())
    key = begun.dataset.key if begun.dataset else ""
    app = open_data(prep=begun.id, row="12", **{"from": "upload"})
    buttons(app)["Edit this row"].click().run()
    find_area(app, "Message 2 (assistant)").set_value("  ")
    buttons(app)["Keep the edit"].click().run()
    assert "This row: message 2 (assistant) is blank." in texts(app)
    assert find_area(app, "Message 2 (assistant)").value == "  ", "what was typed stays"
    find_area(app, "Message 2 (assistant)").set_value("**bold** and better")
    find_area(app, "Message 1 (user)").set_value(f"asked 11\n{HOSTILE}")  # as a browser gives it back
    buttons(app)["Keep the edit"].click().run()
    assert "1 row edited, not in this data yet" in texts(app)
    assert "Not in this data: 1 change, until the copy is made." in texts(app)

    again = open_data(prep=begun.id, row="13", **{"from": "upload"})
    assert "1 row edited, not in this data yet" in texts(again), "a reload finds it"
    buttons(again)["Leave this row out"].click().run()
    assert "1 row left out, 1 row edited, not in this data yet" in texts(again)
    next(one for one in again.button if one.label == "Undo: line 12").click().run()
    assert [edit.word for edit in dataset.list_edits(key)] == ["left out"]
    dataset.edit_row(key, "train", 12, json.loads(say("asked", "**bold** and better")))
    again.run()
    buttons(again)["Make the copy"].click().run()
    run_until(again, lambda app: len(app.metric) == 4 and app.metric[0].value == "39")
    assert "not in this data yet" not in texts(again)
    assert "Open line 1" in buttons(again), "line 13 is not in the copy: its rows are shown from the first"
    run_until(again, lambda app: "1 row is edited, 0 are new, 1 is gone, 39 are the same." in texts(app))
    assert any("**bold** and better" in str(one.value) for one in again.code)
    assert not again.exception


def test_an_edit_that_was_made_meanwhile_in_another_tab_is_not_overwritten_unseen(home: Path) -> None:
    lines = [say(f"asked {number}", f"what is said to it: {number}") for number in range(40)]
    begun = dataset.start_upload("both.jsonl", "\n".join(lines).encode(), say("x", "y").encode())
    key = begun.dataset.key if begun.dataset else ""
    app = open_data(prep=begun.id, row="5", **{"from": "upload"})
    buttons(app)["Edit this row"].click().run()
    dataset.edit_row(key, "train", 5, json.loads(say("asked 4", "theirs")))
    find_area(app, "Message 2 (assistant)").set_value("mine")
    buttons(app)["Keep the edit"].click().run()
    assert "This row was changed elsewhere meanwhile" in texts(app)
    assert any("theirs" in str(one.value) for one in app.code)
    assert find_area(app, "Message 2 (assistant)").value == "mine"
    buttons(app)["Keep the edit"].click().run()
    (edit,) = dataset.list_edits(key)
    assert edit.row == json.loads(say("asked 4", "mine"))
    assert not app.text_area


def test_a_file_in_another_encoding_is_read_in_it_by_a_button(home: Path) -> None:
    given = "\n".join(say(f"Où est le café {number} ?", f"Là-bas, près du café {number}.") for number in range(20))
    begun = dataset.start_upload("french.jsonl", given.encode("cp1252"))
    app = open_data(prep=begun.id, **{"from": "upload"})
    assert "Not UTF-8 text · whole file" in texts(app)
    buttons(app)["Read it as Windows-1252"].click()
    app = run_until(app, lambda app: not buttons(app)["Use this data"].disabled)
    assert "The file was Windows-1252; it is read as that." in texts(app)
    assert "Read it as Windows-1252" not in buttons(app)
    assert not app.exception
