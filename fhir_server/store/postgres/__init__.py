"""PostgreSQL as a program: the embedded server and its files, the schema, and backups. What is asked of it in SQL is everywhere else in the store."""

from .server import State, connect_to_running, embedded, locked, probe

__all__ = ["State", "connect_to_running", "embedded", "locked", "probe"]
