"""Scheduling, queue, billing and payments: workflows over the store."""
