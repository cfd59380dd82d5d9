"""The light half: what a warm call loads. Imports nothing above this folder (docs/architecture.md)."""
