"""The queue of those who have come: who is next, who is called and seen, what the wall shows. Rows beside Encounters; see `store.rules.queueing`."""
