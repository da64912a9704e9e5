"""Faults thrown at every script, see `fault_harness.py`."""
