"""The guard's administration: a page to look at and an interface to call, as one ASGI application."""

from penstock.guard.admin.app import admin_app

__all__ = ["admin_app"]
