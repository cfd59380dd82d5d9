"""The test kit: honest fakes that are real processes. Nothing in `tasak` imports it."""
