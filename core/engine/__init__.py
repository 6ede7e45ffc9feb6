"""The programs that are the steps of a run, the evaluation and a deployment; each runs as a process of its own."""
