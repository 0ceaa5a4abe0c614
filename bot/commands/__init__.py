"""The commands; `cli.py` imports the module of the one that is called for."""
