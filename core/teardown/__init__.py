"""What exists and costs in a workspace, and the plan that deletes it."""
