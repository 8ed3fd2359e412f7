"""The quest log within JupyterLab: what its panel asks the Jupyter server for, and what a save sets going.

`grading/jupyter` enables it; the panel itself is `labextensions/solo-quest-log` there.
"""

import asyncio
import json
import sys
from pathlib import Path

from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.serverapp import ServerApp
from jupyter_server.utils import url_path_join
from tornado.web import authenticated

from grading import units
from grading.dashboard.current import current_page, current_panel, version

CONTENTS = "https://events.jupyter.org/jupyter_server/contents_service/v1"
"""What the server tells of files: saved, renamed, deleted."""


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": __name__}]


def _load_jupyter_server_extension(server: ServerApp) -> None:
    confirmations = Confirmations()
    root = Path(server.contents_manager.root_dir).resolve()
    here = {"confirmations": confirmations, "root": root}
    routes = [("version", _Version), ("panel", _Panel), ("dashboard", _Page)]
    base = server.web_app.settings["base_url"]
    server.web_app.add_handlers(".*$", [(url_path_join(base, "solo", name), made, here) for name, made in routes])

    async def on_file(logger: object, schema_id: str, data: dict) -> None:
        if data["action"] == "save":
            await confirmations.saved(root / data["path"].strip("/"))

    server.event_logger.add_listener(schema_id=CONTENTS, listener=on_file)


class Confirmations:
    """The helper that runs saved notebooks afresh, one at a time, and the last that it told of them."""

    def __init__(self) -> None:
        self.news: dict[str, str | None] = {"checking": None, "told": ""}
        self._helper: asyncio.subprocess.Process | None = None
        self._listening: asyncio.Task | None = None
        self._starting = asyncio.Lock()

    async def saved(self, notebook: Path) -> None:
        """Let the helper know of a save, if it is of a lab; it is started with the first one."""
        if all(notebook != lab.workspace_notebook for lab in units.labs()):
            return
        async with self._starting:
            if self._helper is None or self._helper.returncode is not None:
                await self._start()
        self._helper.stdin.write(f"{notebook}\n".encode())

    async def _start(self) -> None:
        self._helper = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "grading.dashboard.confirming",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        self._listening = asyncio.create_task(self._listen(self._helper.stdout))

    async def _listen(self, told: asyncio.StreamReader) -> None:
        async for line in told:
            self.news = json.loads(line)
        self.news = {"checking": None, "told": ""}


class _Handler(JupyterHandler):
    def initialize(self, confirmations: Confirmations, root: Path) -> None:
        self.confirmations, self.root = confirmations, root

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.set_header("Cache-Control", "no-store")


class _Version(_Handler):
    @authenticated
    def get(self) -> None:
        self.finish({"version": version(), **self.confirmations.news})


class _Panel(_Handler):
    @authenticated
    async def get(self) -> None:
        notebook = self.get_query_argument("notebook", "")
        self.finish(await asyncio.to_thread(current_panel, self.root / notebook if notebook else None))


class _Page(_Handler):
    @authenticated
    async def get(self) -> None:
        self.finish(await asyncio.to_thread(current_page, "version"))
