"""What happens after the commit, and at set times."""
