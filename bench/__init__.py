"""Benchmarks that print ratios: `python -m bench`, from the project's root. Nothing in `tasak` imports them."""
