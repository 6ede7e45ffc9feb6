"""The programs that are the steps of a run, the evaluation and a deployment; each runs as a process of its own."""

# All that is sent to Azure of this repository: the evaluation, a job there, whose folder this is.
EVALUATION_PROGRAM = (
    "core/__init__.py",
    "core/engine/__init__.py",
    "core/engine/answers.py",
    "core/engine/batches.py",
    "core/engine/chat_template.py",
    "core/engine/chat_tokens.py",
    "core/engine/compute_speed.py",
    "core/engine/conversations.py",
    "core/engine/evaluate.py",
    "core/engine/prepacked_weights.py",
    "core/engine/pretrained.py",
    "core/engine/splits.py",
    "core/engine/token_rows.py",
    "core/errors.py",
    "core/recipe.py",
    "core/words.py",
)

# What goes with the job that makes a model of a checkpoint.
MERGE_PROGRAM = (
    "core/__init__.py",
    "core/engine/__init__.py",
    "core/engine/chat_template.py",
    "core/engine/component.py",
    "core/engine/compute_speed.py",
    "core/engine/convert.py",
    "core/engine/disk.py",
    "core/engine/import_model.py",
    "core/engine/lora_linear.py",
    "core/engine/merge.py",
    "core/engine/prepacked_weights.py",
    "core/engine/pretrained.py",
    "core/engine/step.py",
    "core/engine/trainable.py",
    "core/engine/training_settings.py",
    "core/errors.py",
    "core/recipe.py",
    "core/words.py",
)
