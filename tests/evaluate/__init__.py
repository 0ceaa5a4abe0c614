"""What `make evaluate` measures: silence over harmless patches, and mistakes planted by program."""
