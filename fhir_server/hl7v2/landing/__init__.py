"""From messages to the record: what they ask for, which of them are wanted, and one transaction for what belongs together."""
