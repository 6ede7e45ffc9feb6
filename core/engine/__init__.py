"""The programs that are the steps of a run, the evaluation and a deployment; each runs as a process of its own."""

# All that is sent to Azure of this repository: the evaluation, a job there, whose folder this is.
EVALUATION_PROGRAM = (
    "core/__init__.py",
    "core/engine/__init__.py",
    "core/engine/answers.py",
    "core/engine/chat_template.py",
    "core/engine/chat_tokens.py",
    "core/engine/compute_speed.py",
    "core/engine/evaluate.py",
    "core/engine/pretrained.py",
)
