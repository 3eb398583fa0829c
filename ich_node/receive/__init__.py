"""The receive role: Storage SCP, durable spool, series assembly."""
