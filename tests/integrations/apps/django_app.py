"""Django, in one file: the middleware, a decorated view, a throttled one, a stream; for WSGI and for ASGI servers."""

from __future__ import annotations

import django
from common import DECORATED, RULES, TRUSTED, slow, slow_async
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler, ASGIRequest
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path

settings.configure(
    DEBUG=False,
    SECRET_KEY="not a secret: of a test",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=["penstock.integrations.django.limit_middleware", "django.middleware.common.CommonMiddleware"],
    PENSTOCK={"rules": RULES, "trusted": TRUSTED},
    REST_FRAMEWORK={
        "DEFAULT_AUTHENTICATION_CLASSES": [],
        "UNAUTHENTICATED_USER": None,
        "DEFAULT_THROTTLE_CLASSES": ["penstock.integrations.drf.AnonRateThrottle"],
        "DEFAULT_THROTTLE_RATES": {"anon": "2/hour"},
    },
)
django.setup()

from rest_framework.response import Response  # noqa: E402 (needs the settings)
from rest_framework.views import APIView  # noqa: E402

from penstock.integrations.django import limit  # noqa: E402


def hello(request: HttpRequest, number: int = 0) -> HttpResponse:
    return HttpResponse("hello")


@limit(DECORATED, name="decorated")
def decorated(request: HttpRequest) -> HttpResponse:
    return HttpResponse("decorated")


def stream(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(slow_async() if isinstance(request, ASGIRequest) else slow())


def boom(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("boom")


class Throttled(APIView):
    def get(self, request: HttpRequest) -> Response:
        return Response({"hello": "world"})


urlpatterns = [
    path("items/<int:number>", hello),
    path("free", hello),
    path("many", hello),
    path("tenant", hello),
    path("decorated", decorated),
    path("stream", stream),
    path("boom", boom),
    path("throttled", Throttled.as_view()),
]

app = WSGIHandler()
asgi = ASGIHandler()
