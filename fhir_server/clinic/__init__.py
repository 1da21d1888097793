"""The clinic's day: availability and booking, the queue, the visit, messages to people; workflows over the store. Each has a package of its own."""
