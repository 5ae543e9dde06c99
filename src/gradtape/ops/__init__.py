"""The ops, a file per family; `op.py` says what an op is."""
