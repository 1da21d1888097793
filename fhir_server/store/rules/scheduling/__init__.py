"""Time: whose an appointment takes, that nobody has it twice, and the Slots of whose time it is."""
