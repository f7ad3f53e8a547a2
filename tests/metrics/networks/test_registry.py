from types import SimpleNamespace

import pytest

from sid2core.metrics.errors import MetricsError
from sid2core.metrics.networks import registry


@pytest.mark.parametrize("read", [registry.load, registry.own])
def test_an_artifact_of_an_earlier_version_is_refused_with_its_cure(read, tmp_path):
    earlier = SimpleNamespace(folder=tmp_path, metadata={"gauges": ["classifier", "inception"]})
    with pytest.raises(MetricsError, match="dvc repro --force --single-item reference"):
        read(earlier)
