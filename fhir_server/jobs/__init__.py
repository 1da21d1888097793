"""Background work: what changed goes from the outbox to those who listen, and tasks run by Celery. https://docs.celeryq.dev/en/stable/

`worker` and `scheduler` are imported one by one: the scheduler has a fifth of what a worker loads.
"""
