"""A bank behind HTTP, by FastAPI: what a web application does with a runtime, its keys and its errors."""
