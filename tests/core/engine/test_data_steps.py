"""The steps before training: validation, model import, preprocessing; and the converter after it."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file, save_file

from core.engine.chat_tokens import load_chat_tokens
from core.engine.conversations import read_chat_file, split
from core.engine.convert import convert
from core.engine.import_model import import_model
from core.engine.preprocess import preprocess
from core.engine.token_rows import read_rows
from core.engine.validate import validate
from core.errors import BadInput, NotFound, TunedeckError
from tests.core.engine.conftest import REPOSITORY, Workbench
from tests.core.engine.talks import CALLS, TOOL
from tests.tiny_model import make_conversations, write_jsonl


def validate_rows(bench: Workbench, rows: list[object], **parameters: str) -> None:
    train = write_jsonl(bench.folder / "train.jsonl", rows)
    validate(bench.step("validate", train_file=str(train), model_dir=str(bench.model), parameters=parameters))


def test_good_data_is_counted(bench: Workbench) -> None:
    rows = [*make_conversations(12), {"messages": None}, {"messages": [{"role": "user", "content": "alone"}], "x": 1}]
    validate_rows(bench, rows)
    info = json.loads((bench.folder / "validate" / "outputs" / "validation_info.json").read_text())
    train = info["data"]["train"]
    assert (train["rows"], train["dropped_rows"], train["unused_columns"]) == (12, 2, ["x"])


def test_what_the_template_leaves_out_is_told_before_the_training(
    bench: Workbench, capsys: pytest.CaptureFixture[str]
) -> None:
    validate_rows(bench, [*make_conversations(12), *[{"messages": CALLS, "tools": [TOOL]}] * 3])
    info = json.loads((bench.folder / "validate" / "outputs" / "validation_info.json").read_text())
    assert info["data"]["train"]["left_out"] == {"tools": 3, "answers": 3}
    assert "train: the model's chat template leaves out tools in 3 of these." in (said := capsys.readouterr().out)
    assert "train: a call is learned as an empty answer, for the template does not show it, in 3 of these." in said


def test_a_row_whose_answer_the_template_does_not_show_is_named(bench: Workbench) -> None:
    bench.model = Path(shutil.copytree(bench.model, bench.folder / "model"))
    (bench.model / "chat_template.jinja").write_text(
        "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}"
    )
    with pytest.raises(BadInput, match=r"^Line 1 of train\.jsonl: .*does not show an answer") as caught:
        validate_rows(bench, make_conversations(12))
    assert caught.value.hint == "11 more: see the log."


def test_the_broken_line_is_named(bench: Workbench) -> None:
    train = write_jsonl(bench.folder / "train.jsonl", make_conversations(12))
    lines = train.read_text().splitlines()
    lines[6] = '{"messages": ['
    train.write_text("\n".join(lines))
    step = bench.step("validate", train_file=str(train), model_dir=str(bench.model), parameters={})
    with pytest.raises(BadInput, match=r"Line 7 of train\.jsonl: not valid JSON"):
        validate(step)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (make_conversations(9), "train.jsonl holds 9 usable conversations; fine-tuning needs at least 10."),
        ([*make_conversations(12), {"text": "x"}], "Line 13 of train.jsonl: it has no 'messages'."),
        ([*make_conversations(12), [1]], "Line 13 of train.jsonl: not a JSON object."),
        ([*make_conversations(12), {"messages": "hi there"}], "Line 13 of train.jsonl: 'messages' must be a list"),
    ],
)
def test_data_that_cannot_be_trained_on_is_refused(bench: Workbench, rows: list[object], words: str) -> None:
    with pytest.raises(BadInput) as caught:
        validate_rows(bench, rows)
    assert caught.value.message.startswith(words)


def test_a_parameter_that_is_not_done_here_is_refused_by_name(bench: Workbench) -> None:
    with pytest.raises(BadInput, match="apply_deepspeed is true; this machine takes only false"):
        validate_rows(bench, make_conversations(12), apply_deepspeed="true")


def test_missing_data_is_named(bench: Workbench) -> None:
    step = bench.step("validate", train_file="/nowhere/train.jsonl", model_dir=str(bench.model), parameters={})
    with pytest.raises(NotFound, match=r"train\.jsonl was not found"):
        validate(step)


def test_a_failure_leaves_its_sentence_and_exit_status_1(bench: Workbench) -> None:
    train = write_jsonl(bench.folder / "train.jsonl", make_conversations(3))
    step = bench.step("validate", train_file=str(train), model_dir=str(bench.model), parameters={})
    process = bench.start("validate", step)
    log = process.communicate()[0]
    assert process.returncode == 1
    error = json.loads((step.folder / "error.json").read_text())
    assert error["code"] == "UserError"
    assert error["message"].startswith("train.jsonl holds 3 usable conversations")
    assert error["message"] in log


def test_the_first_three_steps_never_import_torch() -> None:
    code = (
        "import sys, core.engine.validate, core.engine.import_model, core.engine.preprocess, "
        "core.engine.convert; print('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("validation", "test", "sizes"),
    [(False, False, (80, 10, 10)), (False, True, (80, 20, 7)), (True, False, (80, 6, 20)), (True, True, (100, 6, 7))],
)
def test_data_is_split_by_the_services_rule(
    tmp_path: Path, validation: bool, test: bool, sizes: tuple[int, int, int]
) -> None:
    train = read_chat_file(write_jsonl(tmp_path / "train.jsonl", make_conversations(100)))
    given_validation = read_chat_file(write_jsonl(tmp_path / "v.jsonl", make_conversations(6))) if validation else None
    given_test = read_chat_file(write_jsonl(tmp_path / "t.jsonl", make_conversations(7))) if test else None
    parts = split(train, given_validation, given_test, seed=42)
    assert tuple(len(parts[name]) for name in ("train", "validation", "test")) == sizes
    from_train = [
        parts["train"],
        *(parts[name] for name in ("validation", "test") if parts[name].path.name == "train.jsonl"),
    ]
    assert sorted(line for part in from_train for line in part.lines) == list(range(1, 101))
    again = split(train, given_validation, given_test, seed=42)
    assert again["train"].lines.tolist() == parts["train"].lines.tolist()


@pytest.mark.parametrize("rows", range(10, 60, 7))
def test_four_fifths_are_trained_on_and_no_split_is_empty(tmp_path: Path, rows: int) -> None:
    train = read_chat_file(write_jsonl(tmp_path / "train.jsonl", make_conversations(rows)))
    for validation, test in itertools.product((None, train), repeat=2):
        parts = {name: len(part) for name, part in split(train, validation, test, seed=1).items()}
        assert parts["train"] == (rows if validation and test else rows * 4 // 5)
        assert min(parts.values()) > 0


def test_rows_all_of_whose_answers_have_weight_0_are_left_out_as_single_messages_are(tmp_path: Path) -> None:
    rows = make_conversations(5)
    unlearned = [message | {"weight": 0} for message in rows[1]["messages"]]
    file = write_jsonl(tmp_path / "train.jsonl", [rows[0], {"messages": unlearned}, *rows[2:]])
    read = read_chat_file(file)
    assert (read.dropped, read.lines.tolist()) == (1, [1, 3, 4, 5])


def test_rows_are_cut_at_max_seq_length_and_those_without_an_answer_left_out(bench: Workbench) -> None:
    long = {"messages": [{"role": "user", "content": "kettle " * 200}, {"role": "assistant", "content": "It is blue."}]}
    wordy = {
        "messages": [{"role": "user", "content": "kettle?"}, {"role": "assistant", "content": "It is blue. " * 100}]
    }
    train = write_jsonl(bench.folder / "train.jsonl", [*make_conversations(30), *[long] * 30, *[wordy] * 30])
    step = bench.step(
        "preprocess", train_file=str(train), model_dir=str(bench.model), parameters={"max_seq_length": "64"}
    )
    preprocess(step)
    report = json.loads((step.outputs / "preprocess.json").read_text())["splits"]
    assert sum(each["empty_rows"] for each in report.values()) == 30
    assert sum(each["cut_rows"] for each in report.values()) == 60
    rows = read_rows(step.outputs / "train.safetensors")
    assert rows.lengths.max() == 64
    assert all(rows.row(index)[1].any() for index in range(len(rows)))
    assert int(np.sum(rows.learned)) == report["train"]["trained_tokens"]


def test_tokens_are_mapped_from_a_file_that_safetensors_reads_too(bench: Workbench) -> None:
    """A run that the version before this one began has such a file of safetensors' own writing."""
    train = write_jsonl(bench.folder / "train.jsonl", make_conversations(100))
    step = bench.step("preprocess", train_file=str(train), model_dir=str(bench.model), parameters={})
    preprocess(step)
    path = step.outputs / "train.safetensors"
    ours, theirs = read_rows(path), load_file(path)
    save_file(theirs, bench.folder / "theirs.safetensors")
    again = read_rows(bench.folder / "theirs.safetensors")
    wanted = load_chat_tokens(bench.model).encode_conversations([row["messages"] for row in make_conversations(100)])
    for index, line in enumerate(split(read_chat_file(train), None, None, 42)["train"].lines):
        for rows in (ours, again):
            ids, learned = rows.row(index)
            assert (ids.tolist(), learned.tolist()) == (wanted[line - 1].ids, wanted[line - 1].learned)
    assert isinstance(ours.ids.base, np.memmap)
    assert isinstance(ours.learned.base, np.memmap)


def test_the_model_is_imported_without_a_copy(bench: Workbench) -> None:
    import_model(bench.step("import_model", model_dir=str(bench.model)))
    linked = bench.folder / "import_model" / "outputs" / "model" / "model.safetensors"
    assert linked.samefile(bench.model / "model.safetensors")


@pytest.mark.parametrize(
    ("damage", "words"),
    [("cut", "is cut short or damaged"), ("code", "brings code of its own"), ("missing", "holds no tokenizer.json")],
)
def test_a_damaged_model_folder_is_refused(bench: Workbench, damage: str, words: str) -> None:
    folder = bench.folder / "damaged"
    folder.mkdir()
    for file in bench.model.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    if damage == "cut":
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "code":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "x.Y"}}))
    else:
        (folder / "tokenizer.json").unlink()
    with pytest.raises(TunedeckError, match=words):
        import_model(bench.step("import_model", model_dir=str(folder)))


def test_the_converter_writes_an_mlflow_folder_of_links(bench: Workbench) -> None:
    convert(bench.step("convert", model_dir=str(bench.model), base={"name": "tiny-chat", "version": "1"}))
    folder = bench.folder / "convert" / "outputs" / "mlflow_model"
    told = yaml.safe_load((folder / "MLmodel").read_text())
    assert told["metadata"]["base_model_name"] == "tiny-chat"
    assert told["flavors"]["hftransformersv2"]["task_type"] == "chat-completion"
    assert (folder / "model" / "model.safetensors").samefile(bench.model / "model.safetensors")
