"""One connection to an Azure ML workspace: clients, credentials, calls and their errors, storage, cached reads."""
