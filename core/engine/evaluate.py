"""Compare a tuned model with its base on held-out conversations: the loss of every row, and answers to a few questions.

Runs here and, unchanged, as a command job on Azure: beside torch and transformers it needs what EVALUATION_PROGRAM
(core/engine) lists, and nothing else of this repository.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core.engine.answers import is_learned
from core.engine.chat_template import BadConversation, Message, Tools
from core.engine.chat_tokens import ChatTokens, load_chat_tokens
from core.engine.compute_speed import Threads, choose_device, choose_number_format
from core.engine.conversations import ChatFile, ChatRow, read_chat_file
from core.engine.token_rows import TokenRows, Written, read_rows, write_rows
from core.errors import BadInput, TunedeckError

if TYPE_CHECKING:
    import torch

TOKENS_PER_BATCH = 2048
ROWS_PER_BATCH = 8
FOLDER_VARIABLE = "TUNEDECK_STEP_FOLDER"
BEST, WORST, RANDOM = "best", "worst", "random"


@dataclass(frozen=True)
class Options:
    """How to evaluate."""

    answers: int = 12
    seed: int = 42
    max_new_tokens: int = 64
    cores: int = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)  # as many as the compute's size names


@dataclass(frozen=True)
class Question:
    """A row's conversation up to its last answer, and that answer. row: counted from 1. why: why it was picked."""

    row: int
    messages: list[Message]
    expected: str
    tools: Tools = None
    why: str = RANDOM


class Reporter:
    """Progress lines, and the files of a local step where there is one."""

    def __init__(self, total: int) -> None:
        self.folder = os.environ.get(FOLDER_VARIABLE)
        self.total, self.done = total, 0

    def say(self, line: str) -> None:
        """Add a line to the log."""
        print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)

    def advance(self, phase: str = "evaluating") -> None:
        """Count one more piece of work."""
        self.done = min(self.done + 1, self.total)
        if self.folder:
            body = {"step": self.done, "total_steps": self.total, "epoch": 0.0, "phase": phase}
            _replace(Path(self.folder) / "progress.json", {**body, "at": time.time_ns() // 1_000_000})

    def log_metric(self, key: str, value: float) -> None:
        """Append a metric."""
        if self.folder:
            row = {"key": key, "value": value, "step": 1, "timestamp": time.time_ns() // 1_000_000}
            with (Path(self.folder) / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")


def evaluate(base: Path, tuned: Path, test: Path, output: Path, options: Options) -> dict[str, Any]:
    """Write output/evaluation.json and return what it holds; raises BadInput, BadConversation."""
    from core.engine.prepacked_weights import prepack_for_inference
    from core.engine.pretrained import load_pretrained  # it imports torch

    started = time.perf_counter()
    base, tuned = _weights_folder(base), _weights_folder(tuned)
    tokens = load_chat_tokens(base)
    chat_file = _find_chat_file(test)
    rows, written = _tokenise(tokens, chat_file)
    answered = np.fromiter((row.line for row in chat_file.read() if _is_answered(row)), np.int64)
    batches = _plan_batches(rows.lengths)
    reporter = Reporter(total=2 * (len(batches) + min(options.answers, len(answered))))
    reporter.say(f"{len(rows)} rows, {written.tokens} tokens.")
    results: dict[str, Any] = {}
    losses: dict[str, np.ndarray] = {}
    answers: dict[str, list[str]] = {}
    questions: list[Question] = []
    learned = np.array([rows.row(index)[1][1:].sum() for index in range(len(rows))])
    device = choose_device()
    number_format, _ = choose_number_format(device=device)
    threads = Threads(options.cores, number_format, fixed=device != "cpu")
    for kind, folder in (("tuned", tuned), ("base", base)):  # the tuned model's losses say which rows are shown
        model = load_pretrained(folder, number_format, device)
        prepack_for_inference(model)
        reporter.say(f"{kind} loaded in {number_format} on {device}.")
        sums = _measure_losses(model, tokens, rows, batches, threads, reporter)
        losses[kind] = sums / learned
        loss = float(sums.sum() / learned.sum())
        results[kind] = {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}
        reporter.log_metric(f"{kind}_eval_loss", loss)
        reporter.say(f"{kind}: loss {loss:.4f}, perplexity {results[kind]['perplexity']:.2f}")
        questions = questions or _pick_questions(chat_file, answered, written.lines, losses["tuned"], options)
        answers[kind] = _answer(model, tokens, questions, options.max_new_tokens, reporter)
        del model
    body = {
        "rows": len(rows),
        "tokens": written.tokens,
        "learned_tokens": written.trained_tokens,
        **results,
        "answers": [
            {
                "row": each.row,
                "why": each.why,
                "prompt": str(each.messages[-1].get("content") or ""),
                "messages": each.messages,
                "expected": each.expected,
                **{kind: answers[kind][number] for kind in answers},
                **{f"{kind}_loss": _find_loss(losses[kind], written.lines, each.row) for kind in losses},
            }
            for number, each in enumerate(questions)
        ],
        "seed": options.seed,
        "max_new_tokens": options.max_new_tokens,
        "seconds": round(time.perf_counter() - started, 2),
    }
    output.mkdir(parents=True, exist_ok=True)
    _replace(output / "evaluation.json", body)
    reporter.say(f"Evaluated in {body['seconds']:.0f} s.")
    return body


def _weights_folder(folder: Path) -> Path:
    """Return the folder with config.json: the one given, or the one inside an MLflow model."""
    for candidate in (folder, folder / "model", folder / "data" / "model"):
        if (candidate / "config.json").is_file():
            return candidate
    raise BadInput(f"The model folder {folder.name} holds no config.json.")


def _find_chat_file(test: Path) -> ChatFile:
    """Return the file of test data, or the first of a folder of it."""
    files = sorted(test.glob("*.jsonl")) if test.is_dir() else [test]
    if not files or not files[0].is_file():
        raise BadInput(f"The test data {test.name} was not found.")
    chat_file = read_chat_file(files[0])
    if not len(chat_file):
        raise BadInput(f"{files[0].name} holds no conversation.")
    return chat_file


def _tokenise(tokens: ChatTokens, chat_file: ChatFile) -> tuple[TokenRows, Written]:
    """Return the rows in a file that is gone as soon as this process is."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "test.safetensors"
        written = write_rows(tokens, chat_file, tokens.context_length, path)
        if not len(written.lines):
            raise BadInput("The test data holds no answer of the assistant.")
        return read_rows(path), written


def _is_answered(row: ChatRow) -> bool:
    return bool(is_learned(row.messages[-1]) and row.messages[-1].get("content"))


def _find_loss(losses: np.ndarray, lines: np.ndarray, line: int) -> float | None:
    at = int(np.searchsorted(lines, line))
    return float(losses[at]) if at < len(lines) and lines[at] == line else None


def _pick_questions(
    chat_file: ChatFile, answered: np.ndarray, lines: np.ndarray, losses: np.ndarray, options: Options
) -> list[Question]:
    """Draw rows at random, the same for the same seed; then those with the lowest and the highest loss.

    Of all answers a quarter is of the best, a quarter of the worst; random ones stand in the file's order. answered,
    lines: int64, on which lines a row ends with an answer, and on which are those whose `losses` were measured.
    """
    count = min(options.answers, len(answered))
    ends = count // 4
    drawn = np.sort(answered[random.Random(options.seed).sample(range(len(answered)), count - 2 * ends)])
    others = np.flatnonzero(np.isin(lines, answered) & ~np.isin(lines, drawn))
    ranked = lines[others[np.argsort(losses[others], kind="stable")]]
    picked = [(RANDOM, line) for line in drawn]
    picked += [(BEST, line) for line in ranked[:ends]]
    picked += [(WORST, line) for line in ranked[::-1][: min(ends, len(ranked) - ends)]]
    rows = chat_file.take(np.searchsorted(chat_file.lines, [line for _, line in picked])).read()
    return [
        Question(row.line, row.messages[:-1], str(row.messages[-1]["content"]), row.tools, why)
        for (why, _), row in zip(picked, rows, strict=True)
    ]


def _plan_batches(lengths: np.ndarray) -> list[list[int]]:
    """Return batches of rows of similar length, the longest first, bounded in rows and tokens."""
    batches: list[list[int]] = []
    for index in np.argsort(-lengths, kind="stable").tolist():
        last = batches[-1] if batches else []
        if not last or len(last) >= ROWS_PER_BATCH or (len(last) + 1) * lengths[last[0]] > TOKENS_PER_BATCH:
            batches.append([index])
        else:
            last.append(index)
    return batches


def _measure_losses(
    model: Any, tokens: ChatTokens, rows: TokenRows, batches: list[list[int]], threads: Threads, reporter: Reporter
) -> np.ndarray:
    """Return of each row the summed cross-entropy (nats) of the tokens the assistant wrote, float64 (rows,)."""
    import torch

    from core.engine.batches import make_batch  # it imports torch

    found = np.zeros(len(rows))
    with torch.inference_mode():
        for batch in batches:
            made = make_batch(rows, np.array(batch), tokens.pad_id, 0, model.device)
            ids, learned = made.ids, made.learned[:, 1:]
            logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
            losses = _losses(logits[learned], ids[:, 1:][learned])
            counts = learned.sum(dim=1).tolist()
            found[batch] = [float(part.sum()) for part in torch.split(losses, counts)]
            threads.adapt()
            reporter.advance()
    return found


def _losses(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return cross-entropies in fp32, some hundred positions at a time."""
    import torch

    pieces = zip(torch.split(logits, 256), torch.split(targets, 256), strict=True)
    return torch.cat([torch.nn.functional.cross_entropy(each.float(), to, reduction="none") for each, to in pieces])


def _answer(
    model: Any, tokens: ChatTokens, questions: list[Question], max_new_tokens: int, reporter: Reporter
) -> list[str]:
    """Return greedy answers: all questions of similar length at once, padded on the left."""
    import torch

    room = tokens.context_length - max_new_tokens
    prompts = [tokens.encode_prompt(each.messages, each.tools)[-room:] for each in questions]
    order = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
    answers = [""] * len(prompts)
    for start in range(0, len(order), ROWS_PER_BATCH * 2):
        chosen = order[start : start + ROWS_PER_BATCH * 2]
        width = max(len(prompts[number]) for number in chosen)
        pads = [[tokens.pad_id] * (width - len(prompts[number])) for number in chosen]
        ids = torch.tensor([pad + prompts[number] for pad, number in zip(pads, chosen, strict=True)])
        mask = torch.tensor([[0] * len(pad) + [1] * (width - len(pad)) for pad in pads])
        with torch.inference_mode():
            made = model.generate(
                ids.to(model.device),
                attention_mask=mask.to(model.device),
                max_new_tokens=max_new_tokens,
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                eos_token_id=list(tokens.stop_ids),
                pad_token_id=tokens.pad_id,
            )
        for number, row in zip(chosen, made[:, width:].tolist(), strict=True):
            answers[number] = tokens.decode(row).strip()
            reporter.advance()
    return answers


def _replace(path: Path, body: dict[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(body, indent=2, ensure_ascii=False), encoding="utf-8")
    temporary.replace(path)


def main() -> int:
    """Read the command line and evaluate; a failure that is understood is one sentence and status 1."""
    parser = argparse.ArgumentParser(description="Compare a tuned model with its base on held-out conversations.")
    for name in ("base", "tuned", "test", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--answers", type=int, default=Options.answers)
    parser.add_argument("--seed", type=int, default=Options.seed)
    parser.add_argument("--max-new-tokens", type=int, default=Options.max_new_tokens)
    parser.add_argument("--cores", type=int, default=Options.cores)
    given = parser.parse_args()
    options = Options(given.answers, given.seed, given.max_new_tokens, given.cores)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        evaluate(given.base, given.tuned, given.test, given.output, options)
    except (TunedeckError, BadConversation) as error:
        said = error.message if isinstance(error, TunedeckError) else str(error)
        print(f"ERROR {said}", file=sys.stderr, flush=True)
        if folder := os.environ.get(FOLDER_VARIABLE):
            _replace(Path(folder) / "error.json", {"code": "UserError", "message": said, "hint": ""})
        return 1
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # torch's clean-up takes longer than the answer is worth
