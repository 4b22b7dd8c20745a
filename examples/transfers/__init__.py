"""Money between accounts, by a reaction with compensation and a time-out, while everything is killed at random."""
