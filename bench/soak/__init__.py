"""Weeks of use in minutes: very many calls while things break, and which of the daemon's promises are left."""
