"""Fine-tuning runs: jobs and their states, progress, logs, metrics, failures, evaluation."""
