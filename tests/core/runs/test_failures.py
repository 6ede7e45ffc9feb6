from __future__ import annotations

import pytest

from core.runs.failures import explain

VALUES = {
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "max_seq_length": 512,
    "learning_rate": 2e-3,
}


def test_out_of_memory_names_step_batch_and_length_and_offers_the_same_total_batch() -> None:
    log = "step 11/40 · loss 1.2\ntorch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB"
    error = explain("The step ended with exit status 1.", log, VALUES, "Fine-tune", 12)
    assert error.cause == "The run stopped: out of memory at step 12 (batch 8, 512 tokens)."
    assert error.action == "Retry with batch 4 and accumulation 2: same total batch."
    assert error.settings == {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
    assert error.evidence.startswith("torch.OutOfMemoryError")
    assert error.stage == "Fine-tune"


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        ("Training dataset has 4 non-null samples, which is fewer than 10 samples", "too few usable training rows"),
        ("Unable to continue finetuning. No assistant tokens found after preprocessing.", "no assistant text was left"),
        ("Failure while applying chat template to dataset: roles must alternate", "chat template refused"),
        ("OSError: [Errno 28] No space left on device", "the disk is full"),
        ("RuntimeError: loss is nan", "no longer a number"),
        ("the trainer was killed by signal 9", "out of memory"),
        ("403 Client Error: Forbidden for url: https://x.blob.core.windows.net/c", "may not read what it needs"),
    ],
)
def test_what_is_known_is_said_in_the_operators_words(message: str, cause: str) -> None:
    error = explain(message, "", VALUES)
    assert cause in error.cause
    assert error.action


def test_what_is_not_known_is_shown_as_it_was_written() -> None:
    log = "Traceback (most recent call last):\n  File \"train.py\", line 3\nKeyError: 'messages'\n"
    error = explain("The step ended with exit status 1.", log, VALUES)
    assert error.cause == "The run stopped: The step ended with exit status 1."
    assert error.evidence == "KeyError: 'messages'"
    assert explain("", "", VALUES).cause == "The run stopped: The service gave no reason."


def test_a_number_in_the_log_is_no_refusal() -> None:
    error = explain(
        "The step ended with exit status 1.", "{'loss': 2.403, 'step': 403}\nKeyError: 'messages'\n", VALUES
    )
    assert error.cause == "The run stopped: The step ended with exit status 1."


@pytest.mark.parametrize(
    ("method", "rate", "advised"),
    [
        ("true", 2e-3, "Retry with learning rate 0.0005."),
        ("true", 0.04, "Retry with learning rate 0.01."),
        ("true", 1e30, "Retry with learning rate 5e-06."),
        ("false", 4e-3, "Retry with learning rate 0.001."),
        ("false", 1.0, "Retry with learning rate 5e-06."),
    ],
)
def test_after_a_divergence_a_quarter_of_the_rate_is_advised_unless_that_is_absurd(
    method: str, rate: float, advised: str
) -> None:
    values = {"learning_rate": rate, "apply_lora": method}
    assert explain("The loss at step 2 is not a number: training has diverged.", "", values).action == advised


def test_after_an_absurd_rate_the_models_own_comes_before_the_lessons() -> None:
    error = explain("loss is nan", "", {"learning_rate": 1e30}, usual_rate=lambda: 2e-3)
    assert error.settings == {"learning_rate": 2e-3}


def test_a_command_of_azure_is_advised_on_azure_alone() -> None:
    actions = [explain("ImageBuildFailure", "", VALUES, on_azure=where).action for where in (True, False)]
    assert ["az ml" in action for action in actions] == [True, False]
    assert all(action.startswith("Start again.") for action in actions)
