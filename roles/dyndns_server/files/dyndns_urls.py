"""What is served: updates. The web pages, the admin's and the registration are not."""

from __future__ import annotations

from django.http import HttpResponse
from django.urls import re_path
from nsupdate.api.views import NicUpdateView

urlpatterns = [re_path(r"^nic/update$", NicUpdateView.as_view())]


def _plain(status: int) -> object:
    def view(request: object, exception: object = None) -> HttpResponse:
        return HttpResponse("", status=status, content_type="text/plain")

    return view


handler400, handler403, handler404, handler500 = (_plain(status) for status in (400, 403, 404, 500))
