"""Signing in to servers: the flows, and the only place that holds tokens."""
