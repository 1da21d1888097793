"""What bodies, queries and answers of the admin API look like: a module for each group of addresses, and `common` for what several have."""
