"""Index rows, and what else is made of resources, made anew: for a parameter that comes, for other settings, or because somebody asks."""
