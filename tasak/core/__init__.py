"""The heart: configuration, connections and calls, the same in the daemon and in direct mode."""
