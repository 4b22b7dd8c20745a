"""What is measured: the same small subject as an aggregate, as a bare Ray actor, and in other libraries."""
