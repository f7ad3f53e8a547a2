"""Provenance of the page: parameters, versions, artifacts and commands."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sid2core.report.read.inputs import Inputs


def collect(inputs: Inputs) -> dict[str, Any]:
    """Parameters (without ``runtime``, which changes no result), versions, digests, commands."""
    values = inputs.params.model_dump(mode="json", exclude={"runtime"})
    sections = {name: value for name, value in values.items() if isinstance(value, dict)}
    scalars = {name: value for name, value in values.items() if not isinstance(value, dict)}
    made = [inputs.prepare, inputs.guidance_search, inputs.evaluate]
    versions = {name: v for item in made for name, v in item.manifest["versions"].items()}
    digests = {name: v for item in made for name, v in item.manifest["inputs"].items()}
    return {
        "parameters": [
            "\n".join(lines(scalars)),
            *("\n".join([f"{name}:", *lines(value, 1)]) for name, value in sections.items()),
        ],
        "versions": sorted(versions.items()),
        "digests": sorted((digests | {item.stage: item.digest for item in made}).items()),
        "commands": list(inputs.commands.items()),
    }


def lines(mapping: Mapping[str, Any], depth: int = 0) -> list[str]:
    """Lines of YAML for nested mappings, with each list on one line."""
    found = []
    for name, value in mapping.items():
        indent = "  " * depth
        if isinstance(value, dict):
            found += [f"{indent}{name}:", *lines(value, depth + 1)]
        else:
            found.append(f"{indent}{name}: {json.dumps(value, ensure_ascii=False)}")
    return found
