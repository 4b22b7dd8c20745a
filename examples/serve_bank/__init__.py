"""The bank of `examples/fastapi_bank` inside Ray Serve: replicas that hold a runtime on the cluster they run in."""
