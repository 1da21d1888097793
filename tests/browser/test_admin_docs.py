from __future__ import annotations

from .conftest import Visit


def test_the_admin_api_is_shown_and_can_be_tried(visit: Visit) -> None:
    visit.open("/admin/docs")
    page = visit.page
    page.wait_for_selector(".opblock")
    assert page.locator(".opblock").count() > 30
    page.get_by_text("Show what each role may do").click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    # Nobody has signed in.
    page.wait_for_selector(".live-responses-table")
    assert "unauthenticated" in page.locator(".live-responses-table").inner_text()
