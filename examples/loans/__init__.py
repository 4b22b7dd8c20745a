"""A bank's loan applications on Holdfast: `python -m examples.loans` from the project's folder. See README.md."""
