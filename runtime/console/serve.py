"""Serving a console: a socket, a server, and the address to open. The only file that touches uvicorn."""

import asyncio
import contextlib
import errno
import ipaddress
import socket
import webbrowser
from collections.abc import Callable

import uvicorn

from holdfast.journal.errors import HoldfastError

from .addresses import with_query
from .app import app_of
from .console import Console

__all__ = ["AddressTaken", "is_loopback", "serve"]

SHUTDOWN_S = 3


class AddressTaken(HoldfastError):
    """The console cannot listen there. Give another `--port`, or 0 for any that is free."""

    def __init__(self, host: str, port: int, problem: str) -> None:
        super().__init__(host, port, problem)
        self.host, self.port, self.problem = host, port, problem

    def __str__(self) -> str:
        return f"{self.host} port {self.port}: {self.problem}"


def serve(console: Console, host: str, port: int, *, tell: Callable[[str], None], open_browser: bool = False) -> None:
    """Serve until interrupted. `port` 0: any that is free. `tell` gets the address to open, once the socket listens.
    Raises `AddressTaken`."""
    with contextlib.closing(_listening(host, port)) as listening:
        bound = listening.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        address = with_query(f"http://{shown}:{bound}/", token=console.keys.token)
        tell(address)
        if open_browser:
            webbrowser.open(address)
        config = uvicorn.Config(
            app_of(console),
            access_log=False,  # it would keep the token
            log_level="warning",
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=SHUTDOWN_S,
        )
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(uvicorn.Server(config).serve(sockets=[listening]))


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen()
    except OSError as error:
        listening.close()
        problem = "another program listens there" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
        raise AddressTaken(host, port, problem) from None
    return listening
