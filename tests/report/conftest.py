"""The page of a module's own ``root``, as text and parsed."""

from pathlib import Path

import pytest

from tests.report.test_page import Document, build


@pytest.fixture(scope="module")
def text(root: Path) -> str:
    return build(root)


@pytest.fixture(scope="module")
def document(text: str) -> Document:
    return Document(text)
