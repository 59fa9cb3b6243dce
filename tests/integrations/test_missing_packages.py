"""Without the package it builds on, a module says which extra brings it; none is imported before it is asked for."""

from __future__ import annotations

import subprocess
import sys

MODULES = {
    "compat.limits": "limits",
    "integrations.aiohttp": "aiohttp",
    "integrations.celery": "celery",
    "integrations.django": "django",
    "integrations.drf": "drf",
    "integrations.fastapi": "fastapi",
    "integrations.flask": "flask",
    "integrations.grpc": "grpc",
    "integrations.httpx": "httpx",
    "integrations.opentelemetry": "opentelemetry",
    "integrations.prometheus": "prometheus",
    "integrations.requests": "requests",
    "integrations.starlette": "starlette",
}
SCRIPT = """
import importlib, sys
packages = ["celery", "grpc", "httpx", "limits", "opentelemetry", "prometheus_client", "requests"]
packages += ["aiohttp", "django", "rest_framework", "fastapi", "flask", "starlette", "werkzeug"]
import penstock, penstock.compat, penstock.integrations, penstock.integrations.logging
import penstock.adapters.asgi, penstock.adapters.wsgi
print([name for name in packages if name in sys.modules])
for name in packages:
    sys.modules[name] = None
for name in sys.argv[1:]:
    try:
        importlib.import_module("penstock." + name)
    except ImportError as error:
        print(error)
"""


def test_the_extra_is_named() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *MODULES], capture_output=True, text=True, check=True, timeout=60
    )
    imported, *errors = done.stdout.splitlines()
    assert imported == "[]"
    assert len(errors) == len(MODULES)
    for (module, extra), error in zip(MODULES.items(), errors, strict=True):
        assert error.startswith(f"penstock.{module}: ")
        assert error.endswith(f"; pip install 'penstock[{extra}]'")
