"""An ASGI application on a real server in a thread of the test's own, so that the test can look at what it holds."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from browser import missing, wait_for


@contextmanager
def served(app: Any, **settings: Any) -> Iterator[str]:
    """The address it is served at, "http://127.0.0.1:4711". settings: uvicorn's."""
    try:
        import uvicorn
    except ImportError:
        missing("no uvicorn")
    config = uvicorn.Config(app, port=0, ws="none", lifespan="off", log_level="warning", **settings)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for(lambda: server.started or not thread.is_alive())
        if not server.started:
            pytest.fail("the server did not start")
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
