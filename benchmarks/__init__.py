"""Benchmarks: one file per question, each answered as a ratio to what a user would otherwise pick, in one run."""
