"""The dashboard on this machine alone: the page, and the version of the record that it asks for.

It listens on the loopback address, answers to no other name (a page elsewhere on the web could give itself ours by
DNS), and knows GET only.
"""

import asyncio
from collections.abc import Callable

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from grading.dashboard.current import current_page, version

ADDRESS = "127.0.0.1"
NAMES = r"^(127\.0\.0\.1|localhost)$"


class _Handler(RequestHandler):
    def set_default_headers(self) -> None:
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("X-Frame-Options", "DENY")
        self.set_header("Referrer-Policy", "no-referrer")


class _Page(_Handler):
    async def get(self) -> None:
        self.finish(await asyncio.to_thread(current_page, "version"))


class _Version(_Handler):
    def get(self) -> None:
        self.finish({"version": version()})


def application() -> Application:
    """What answers."""
    made = Application()
    made.add_handlers(NAMES, [("/", _Page), ("/version", _Version)])
    return made


def serve(port: int, on_ready: Callable[[str], None]) -> None:
    """Serve until interrupted; `on_ready` gets the address. Port 0 is any that is free; raises `OSError`."""
    asyncio.run(_serve(port, on_ready))


async def _serve(port: int, on_ready: Callable[[str], None]) -> None:
    sockets = bind_sockets(port, ADDRESS)
    HTTPServer(application()).add_sockets(sockets)
    on_ready(f"http://{ADDRESS}:{sockets[0].getsockname()[1]}/")
    await asyncio.Event().wait()
