"""The search tables as they are written: rows merged and sent by few statements, and the small integers that stand for long names."""
