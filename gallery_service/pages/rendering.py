"""Templates into answers: a whole page, or only the part of it that htmx asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import RedirectResponse, Response
from fastapi.templating import Jinja2Templates

from gallery_service.access.page_context import page_context
from gallery_service.caller import Caller
from gallery_service.pages.site_clock import SiteClock
from gallery_service.web.endpoints import seen_sites

_FOLDER = Path(__file__).parent.parent
STATIC = _FOLDER / "static"
templates = Jinja2Templates(_FOLDER / "templates", context_processors=[page_context])
templates.env.trim_blocks = templates.env.lstrip_blocks = True
templates.env.filters["thousands"] = "{:,}".format


def is_htmx(request: Request) -> bool:
    """Whether htmx asks, which wants the changed part only."""
    return request.headers.get("hx-request") == "true"


def wants_page(request: Request) -> bool:
    """Whether a person looks at the answer: a browser that goes somewhere or htmx, not a program."""
    return not request.url.path.startswith("/api/") and "text/html" in request.headers.get("accept", "")


def render(request: Request, template: str, status: int = 200, **context: Any) -> Response:
    """A template's HTML.

    Args:
        template: below templates/.
        status: of the answer.
        context: what the template reads; with `info`, it also gets the site's `clock`.
    """
    if "info" in context:
        context["clock"] = SiteClock(context["info"].timezone)
    caller: Caller | None = getattr(request.state, "caller", None)
    context |= {"caller": caller, "served": [] if caller is None else list(seen_sites(request, caller))}
    return templates.TemplateResponse(request, template, context, status_code=status)


def go_to(request: Request, path: str) -> Response:
    """Lead the browser to another page of this service, after something was changed."""
    if is_htmx(request):
        return Response(status_code=204, headers={"HX-Redirect": path})
    return RedirectResponse(path, 303)


def problem(request: Request, status: int, detail: str) -> Response:
    """What went wrong, for a person to read: in place of the answer, as a page, or else above what they look at."""
    if not is_htmx(request):
        return render(request, "problem.html", status, problem=detail, again=request.method == "GET", code=status)
    if request.headers.get("hx-target") == "section#answer":
        return render(request, "problem_part.html", status, problem=detail)
    answer = render(request, "toast.html", status, problem=detail)
    answer.headers["HX-Retarget"], answer.headers["HX-Reswap"] = "#toasts", "beforeend"
    return answer
