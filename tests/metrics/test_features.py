import numpy as np
import pytest

from sid2core.metrics import features
from sid2core.metrics.errors import MetricsError
from sid2core.metrics.kernel_distance import kid
from sid2core.metrics.precision_recall import density_coverage, precision_recall

GOOD = np.random.default_rng(0).normal(size=(40, 3))
BROKEN = GOOD.copy()
BROKEN[7, 1] = np.nan

TWO_SETS = [kid, precision_recall, density_coverage]


def test_nothing_is_copied_and_whole_numbers_become_floating():
    single = GOOD.astype(np.float32)
    assert features.checked(single) is single
    assert features.checked(np.ones((2, 2), np.uint8)).dtype == np.float64


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (GOOD[:, 0], r"shape \(40,\)"),
        (GOOD[:, :0], r"shape \(40, 0\)"),
        (BROKEN, "1 of 40 vectors of the features are not finite"),
        (GOOD[:1], "needs 2 vectors or more, found 1 features"),
        (GOOD[:0], "needs 2 vectors or more, found 0 features"),
    ],
)
def test_what_is_no_set_of_features_is_refused(values, message):
    with pytest.raises(MetricsError, match=message):
        features.checked(values)


@pytest.mark.parametrize("score", TWO_SETS)
def test_every_score_of_two_sets_refuses_what_it_cannot_compare(score):
    for bad, message in (
        (BROKEN, "1 of 40 vectors of the .* features are not finite"),
        (GOOD[:1], r"vectors or more, found 1 .* features"),
        (GOOD[:, :2], "both must come from one extractor"),
        (GOOD[0], "expected"),
    ):
        for pair in ((GOOD, bad), (bad, GOOD)):
            with pytest.raises(MetricsError, match=message):
                score(*pair)
