import pytest

from sid2core.metrics.errors import MetricsError
from sid2core.metrics.networks import registry
from sid2core.pipeline import artifact


@pytest.mark.parametrize("read", [registry.load, registry.own])
def test_an_artifact_of_an_earlier_version_is_refused_with_its_cure(read, tmp_path):
    with artifact.create("reference", {}, root=tmp_path):
        pass  # its metadata name no extractors
    earlier = artifact.load("reference", root=tmp_path)
    with pytest.raises(MetricsError, match="dvc repro --force --single-item reference"):
        read(earlier)
