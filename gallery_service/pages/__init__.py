"""The pages: HTML from the server, which htmx swaps in part by part.

Their routes are thin. They call what the API calls, for the same caller, and only say it in HTML; what must happen in
the browser (dropping pictures, drawing a box, the keyboard) is in the small modules below static/.
"""

from __future__ import annotations

from fastapi import APIRouter

from gallery_service.pages.admin_pages import admin_pages
from gallery_service.pages.audit_page import audit_pages
from gallery_service.pages.investigation_pages import investigation_pages
from gallery_service.pages.rendering import STATIC, problem, wants_page
from gallery_service.pages.search_page import search_pages
from gallery_service.pages.users_page import users_pages

pages = APIRouter(include_in_schema=False)
for part in (search_pages, investigation_pages, admin_pages, audit_pages, users_pages):
    pages.include_router(part)

__all__ = ["STATIC", "pages", "problem", "wants_page"]
