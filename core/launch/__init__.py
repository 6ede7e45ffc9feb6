"""From a draft to a pipeline job: the draft, the checks before it is submitted, the request, the exported script."""
