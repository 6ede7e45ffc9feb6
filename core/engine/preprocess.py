"""Step 3: split the data by the service's rule and turn conversations into token ids and a mask of what is learned."""

from __future__ import annotations

from typing import Any

from core.engine.chat_template import BadConversation
from core.engine.component import fill_defaults
from core.engine.conversations import ChatFile, check_enough, read_chat_file, split
from core.engine.step import Step, run, write_json
from core.engine.token_rows import write_rows
from core.engine.validate import load_tokens
from core.errors import BadInput

SPLITS = ("train", "validation", "test")


def preprocess(step: Step) -> None:
    """Write outputs/{train,validation,test}.safetensors and preprocess.json."""
    values = fill_defaults(step.parameters)
    tokens = load_tokens(step.path("model_dir"))
    limit = int(values["max_seq_length"])
    limit = tokens.context_length if limit < 1 else min(limit, tokens.context_length)
    report: dict[str, Any] = {"max_seq_length": limit, "splits": {}}
    for name, chat_file in _read_splits(step, int(values["seed"])).items():
        try:
            facts = write_rows(tokens, chat_file, limit, step.outputs / f"{name}.safetensors").facts()
        except BadConversation as error:
            raise BadInput(f"{chat_file.path.name}: {error}", "Check the roles and their order.") from error
        if not facts["rows"]:
            raise BadInput(
                f"No answer of the {name} data is left after cutting rows to {limit} tokens.", "Raise max_seq_length."
            )
        report["splits"][name] = facts
        step.say(
            f"{name}: {facts['rows']} rows, {facts['tokens']} tokens, {facts['trained_tokens']} of them learned, "
            f"longest {facts['longest']}, {facts['cut_rows']} cut at {limit}, {facts['empty_rows']} left out."
        )
    write_json(step.outputs / "preprocess.json", report)


def _read_splits(step: Step, seed: int) -> dict[str, ChatFile]:
    train = read_chat_file(step.path("train_file"))
    check_enough(train)
    others = [read_chat_file(path) if (path := step.find_path(f"{name}_file")) else None for name in SPLITS[1:]]
    return split(train, others[0], others[1], seed)


if __name__ == "__main__":
    run(preprocess)
