"""The steps of a transaction, in the hands of `transact`: which resources it is about, what is there of them, what may be done, and what will be."""
