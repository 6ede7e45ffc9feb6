"""Jobs of the local workspace: what was asked, the steps that run, and how they went."""
