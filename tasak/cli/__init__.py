"""The full command line: everything that is not one warm call."""
