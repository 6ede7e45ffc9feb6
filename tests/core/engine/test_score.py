"""A deployment's process: both request forms, streaming, limits, and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from core.engine.finetune import finetune
from tests.core.dataset.model.test_model_process import LOOP
from tests.core.engine.conftest import REPOSITORY, Workbench
from tests.waiting import wait_until

SECRET = "for this test"
QUESTION = [{"role": "user", "content": "What is the kettle 7?"}]


class Deployment:
    def __init__(self, url: str, log: Path) -> None:
        self.url, self.log = url, log

    def post(self, path: str, body: Any, **options: Any) -> requests.Response:
        headers = {"X-Score-Secret": SECRET}
        return requests.post(self.url + path, json=body, headers=headers, timeout=60, **options)

    def chat(self, **body: Any) -> requests.Response:
        return self.post("/v1/chat/completions", {"messages": QUESTION, **body})


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Deployment]:
    """A served tiny model that was tuned to say that it is blue."""
    bench = Workbench(tmp_path_factory.mktemp("served"), tiny_model)
    step = bench.finetune_step(num_train_epochs=4)
    finetune(step)
    template = step.outputs / "model" / "chat_template.jinja"
    source = template.read_text()
    template.unlink()  # it may be a link to the base model's
    template.write_text(source + "{% if 'for ever' in messages[-1].content %}" + LOOP + "{% endif %}")
    folder = bench.folder / "deployment"
    folder.mkdir()
    command = [sys.executable, "-m", "core.engine.score", "--folder", str(folder), "--cores", "1"]
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(
            [*command, "--model", str(step.outputs / "model"), "--name", "tiny-tuned"],
            cwd=REPOSITORY,
            env={**os.environ, "SCORE_SECRET": SECRET},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    wait_until(lambda: (folder / "ready.json").exists() or process.poll() is not None, (folder / "log.txt").read_text)
    assert process.poll() is None, (folder / "log.txt").read_text()
    ready = json.loads((folder / "ready.json").read_text())
    assert ready["pid"] == process.pid
    yield Deployment(f"http://127.0.0.1:{ready['port']}", folder / "log.txt")
    process.terminate()
    process.wait(10)


@pytest.mark.parametrize("nested", [False, True])
def test_both_nestings_of_the_lessons_request_are_answered(deployment: Deployment, nested: bool) -> None:
    parameters = {"temperature": 0.01, "top_p": 0.9, "do_sample": True, "max_new_tokens": 20}
    data = {"input_string": [QUESTION] if nested else QUESTION, "parameters": parameters}
    answer = deployment.post("/score", {"input_data": data, "params": {}}).json()
    assert answer["output"] == "It is blue."
    assert answer["message"] == {"role": "assistant", "content": "It is blue."}
    assert (answer["finish_reason"], answer["model"]) == ("stop", "tiny-tuned")
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_a_completion_has_openais_shape(deployment: Deployment) -> None:
    answer = deployment.chat(temperature=0, max_tokens=20, model="whatever").json()
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "It is blue."}
    assert answer["choices"][0]["finish_reason"] == "stop"


def read_events(response: requests.Response) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def test_a_stream_is_events_that_add_up_to_the_answer(deployment: Deployment) -> None:
    response = deployment.chat(stream=True, max_tokens=20)
    assert response.headers["content-type"].startswith("text/event-stream")
    events = read_events(response)
    deltas = [event["choices"][0]["delta"] for event in events]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert "".join(delta.get("content", "") for delta in deltas) == "It is blue."
    assert len(events) > 4
    assert events[-1]["choices"][0]["finish_reason"] == "stop"
    assert events[-1]["usage"]["completion_tokens"] > 3
    assert len({event["id"] for event in events}) == 1


def test_the_longest_answer_is_kept_to(deployment: Deployment) -> None:
    answer = deployment.chat(max_tokens=2).json()
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 2


def test_a_stop_word_ends_the_answer_and_is_not_part_of_it(deployment: Deployment) -> None:
    answer = deployment.chat(stop=["blue"]).json()
    assert answer["choices"][0]["message"]["content"] == "It is "
    assert answer["choices"][0]["finish_reason"] == "stop"
    events = read_events(deployment.chat(stop="s b", stream=True))
    assert "".join(event["choices"][0]["delta"].get("content", "") for event in events) == "It i"


def test_the_same_seed_draws_the_same_answer(deployment: Deployment) -> None:
    def draw(seed: int) -> str:
        answer = deployment.chat(temperature=2, seed=seed, max_tokens=24)
        return str(answer.json()["choices"][0]["message"]["content"])

    assert draw(5) == draw(5)
    assert len({draw(seed) for seed in range(4)}) > 1


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"temperature": 3}, 422, "'temperature' must be a number from 0 to 2, not 3."),
        ({"max_tokens": 0}, 422, "'max_tokens' must be a whole number from 1"),
        ({"top_p": "high"}, 422, "'top_p' must be a number from 0 to 1, not 'high'."),
        ({"temprature": 1}, 422, "'temprature' is not a parameter of this deployment"),
        ({"n": 2}, 422, "'n' = 2 is not offered by this deployment."),
        ({"stop": [""]}, 422, "'stop' must be a text or a list"),
        ({"stream": "yes"}, 422, "'stream' must be true or false."),
        ({"messages": []}, 400, "'messages' must be a list of messages."),
        ({"messages": [{"role": "user"}]}, 400, "Message 1 needs 'content' as text."),
        ({"messages": [{"role": "user", "content": "kettle " * 600}]}, 400, "the model reads at most 512"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_answered_is_refused_with_a_sentence(
    deployment: Deployment, body: dict[str, Any], status: int, words: str, stream: bool
) -> None:
    response = deployment.chat(**({"stream": stream} | body))
    assert response.status_code == status
    assert words in response.json()["error"]["message"]


def test_a_body_that_is_not_json_or_too_large_is_refused(deployment: Deployment) -> None:
    headers = {"X-Score-Secret": SECRET}
    broken = requests.post(deployment.url + "/score", data="{", headers=headers, timeout=10)
    assert (broken.status_code, "not valid JSON" in broken.text) == (400, True)
    large = requests.post(deployment.url + "/score", data=b" " * (5 << 20), headers=headers, timeout=10)
    assert (large.status_code, "larger than 4 MiB" in large.text) == (413, True)
    assert deployment.post("/score", {"input_data": {}}).status_code == 400
    assert deployment.post("/score", {"input_data": {"input_string": [QUESTION, QUESTION]}}).status_code == 422


@pytest.mark.parametrize("path", ["/score", "/v1/chat/completions"])
def test_nobody_gets_an_answer_without_the_secret(deployment: Deployment, path: str) -> None:
    for headers in ({}, {"X-Score-Secret": "wrong"}, {"X-Score-Secret": "ä".encode().decode("latin-1")}):
        assert requests.post(deployment.url + path, json={}, headers=headers, timeout=10).status_code == 401
    assert requests.get(deployment.url + "/", timeout=10).text == "healthy"


def test_requests_wait_for_each_other(deployment: Deployment) -> None:
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: deployment.chat(max_tokens=20).json(), range(4)))
    assert {answer["choices"][0]["message"]["content"] for answer in answers} == {"It is blue."}


@pytest.mark.parametrize("stream", [True, False])
def test_a_generation_stops_when_the_one_who_asked_has_gone(deployment: Deployment, stream: bool) -> None:
    before = deployment.log.read_text().count("(cancelled)")
    # Hot sampling with the end token made unlikely runs to the end of the context, were it not stopped.
    body = {"temperature": 2, "repetition_penalty": 1.9, "max_tokens": 480, "seed": 1}
    with pytest.raises(requests.exceptions.RequestException):  # noqa: PT012 the stream breaks while it is read
        response = requests.post(
            deployment.url + "/v1/chat/completions",
            json={"messages": QUESTION, "stream": stream, **body},
            headers={"X-Score-Secret": SECRET},
            stream=stream,
            timeout=(5, 0.15),
        )
        next(response.iter_content(1))
        response.close()
        raise requests.exceptions.RequestException
    wait_until(lambda: deployment.log.read_text().count("(cancelled)") > before, deployment.log.read_text)
    assert deployment.chat(max_tokens=20).json()["choices"][0]["message"]["content"] == "It is blue."


def test_it_is_never_served_without_a_secret(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "core.engine.score", "--model", "x", "--folder", str(tmp_path)]
    environment = {name: value for name, value in os.environ.items() if name != "SCORE_SECRET"}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "SCORE_SECRET is not set" in done.stderr


class Canary:
    """What a pickle would run as it is read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


def test_weights_that_are_a_pickle_are_never_read(tiny_model: Path, tmp_path: Path) -> None:
    import torch

    from core.engine.generation import load_chat_model
    from core.engine.trainable import load_model

    folder = tmp_path / "pickled"
    shutil.copytree(tiny_model, folder)
    for weights in folder.glob("*.safetensors*"):
        weights.unlink()
    torch.save({"model.embed_tokens.weight": Canary(tmp_path / "was-run")}, folder / "pytorch_model.bin")
    for load in (lambda: load_chat_model(folder, 1), lambda: load_model(folder, "float32", torch.device("cpu"))):
        with pytest.raises(OSError, match=r"model\.safetensors"):
            load()
    assert not (tmp_path / "was-run").exists()


def test_a_template_without_an_end_is_stopped_and_the_next_one_is_answered(deployment: Deployment) -> None:
    """About 2 s: the time of the processor that a template has."""
    answer = deployment.chat(messages=[{"role": "user", "content": "Say it for ever."}])
    assert answer.status_code == 400
    assert "does not come to an end: it was stopped after 2 s" in answer.json()["error"]["message"]
    assert deployment.chat(max_tokens=1).status_code == 200
