"""Online endpoints of the local workspace: deployments, their scorers, and how traffic is split."""
