"""A stand-in for Azure: its hosts behind a proxy, its identities, its prices, and a real local workspace behind them.

The dashboard's own path to Azure runs against it unchanged: the real azure-identity, azure-ai-ml and azure-storage-blob
over TLS, to the names that they know. `python -m tests.azure` serves it with a dashboard to click through.
"""
