"""Runs `async def` tests, each in an event loop of its own, with asyncio's debug checks left off for speed."""

import asyncio
import inspect
import signal

import pytest

# Whoever starts tests in the background has them ignore Ctrl-C, and all that they start: some of it is to hear it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    wanted = pyfuncitem._fixtureinfo.argnames
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in wanted}))
    return True
