"""Sample counts in the names of metrics."""


def count_name(n: int) -> str:
    """``n`` in the name of a metric: 1000 → ``1k``, 50000 → ``50k``, 1527 → ``1527``."""
    return f"{n // 1000}k" if n and n % 1000 == 0 else str(n)
