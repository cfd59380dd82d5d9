"""The tests of the contract, by what they are about."""
