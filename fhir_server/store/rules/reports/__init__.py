"""The rows that reports are made of. docs/decisions/0040-reports-of-rows.md"""
