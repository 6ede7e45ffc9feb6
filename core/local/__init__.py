"""The local workspace: Azure ML's REST API on loopback, which really trains and serves. Imports no client code."""
