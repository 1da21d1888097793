"""The JSON admin API."""
