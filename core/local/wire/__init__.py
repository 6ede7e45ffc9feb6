"""The wire of the local workspace: Azure's envelopes and errors, credentials, connections."""
