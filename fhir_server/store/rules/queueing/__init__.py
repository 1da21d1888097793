"""The queue: entries beside the Encounters of those who wait, and how they follow whatever is written."""
