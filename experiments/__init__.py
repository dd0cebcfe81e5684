"""Across runs: published records, sweeps, the Pareto front, speed comparisons and the tables of README.md and docs/."""
