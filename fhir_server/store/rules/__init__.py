"""What holds at every door, as all of them write through `transact`: a rule a module, each named once in `consequences`."""
