"""What the guides tell people to type is typed, on a clinic that begins with nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import pytest

from tests.documents import ROOT, Served, blocks_of, call, outputs_of, serving

GUIDES = sorted((ROOT / "docs" / "guide").glob("*.md"))


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Where a reader of the guides is once the server has been started for the first time."""
    with serving(tmp_path_factory.mktemp("guides") / "data", "--processes", "1") as made:
        call("user", "add", "you@example.org", "--role", "admin", "--email", "you@example.org", "--data", str(made.data))
        yield made


@pytest.fixture(scope="module")
def printed(clinic: Served) -> Callable[[str], str]:
    """All that a guide prints; it is gone through once."""

    @cache
    def found(guide: str) -> str:
        page = (ROOT / "docs" / "guide" / f"{guide}.md").read_text(encoding="utf-8")
        return "".join(outputs_of(blocks_of(page), clinic))

    return found


@pytest.mark.parametrize(
    ("guide", "expected"),
    [
        ("opening-a-clinic", "there is time to give away\n"),
        ("opening-a-clinic", "arrived\nin-progress\nfinished\n"),
        ("opening-a-clinic", "HSC-"),
        ("opening-a-clinic", "\ncash,EUR,1,60.00,0.00,60.00\n"),
        ("connecting-a-laboratory", "Patient\nDiagnosticReport\nObservation\n1984-06-02\nMSA|AA|S-1\n1\n"),
        ("connecting-a-laboratory", "unmatched 0\nunmapped 0\ninvalid 0\nfailed 0\nwarning 0\n"),
        ("connecting-an-ehr", "201\n200\n{'versionId': '2'"),
        ("connecting-an-ehr", '\n412\n200\nPATCH W/"3"\nPUT W/"2"\nPOST W/"1"\nactive\n'),
        ("keeping-it-running", "ok     database"),
        ("keeping-it-running", " events hold, head "),
    ],
)
def test_what_a_guide_says_works(printed: Callable[[str], str], guide: str, expected: str) -> None:
    assert expected in printed(guide)


def test_the_readme_leads_to_every_guide() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [guide.name for guide in GUIDES if f"](docs/guide/{guide.name})" not in readme] == []
