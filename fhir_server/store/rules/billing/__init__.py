"""Money: what is billed, paid and claimed stays as it was. How it comes to be is in `clinic.billing`."""
