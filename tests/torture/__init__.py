"""The crash campaign: `make torture`."""
