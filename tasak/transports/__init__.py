"""Ways to reach an app: the hooks, their registry, and the transports that come with TASAK."""
