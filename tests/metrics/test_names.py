import pytest

from sid2core.metrics.names import count_name


@pytest.mark.parametrize(
    ("n", "name"),
    [
        (0, "0"),
        (1, "1"),
        (999, "999"),
        (1000, "1k"),
        (1527, "1527"),
        (10_000, "10k"),
        (50_000, "50k"),
    ],
)
def test_count_name(n, name):
    assert count_name(n) == name
