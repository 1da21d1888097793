"""Accounts: how people get one, prove that it is theirs, sign in, and stay signed in. What is open to them then is said by `roles` and `scopes`."""
