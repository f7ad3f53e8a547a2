"""``sid2 export``: a trained model as files of other libraries."""

from __future__ import annotations

import argparse
from pathlib import Path

from sid2core.cli import sample


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    sample.model_argument(parser)
    add = parser.add_argument
    add("--to", metavar="FOLDER", type=Path, required=True, help="an earlier export is replaced")
    add("--format", required=True, metavar="NAME", help="torch (diffusers), stablehlo or onnx")
    add("--license", metavar="ID", help="of the weights, for the model card: such as apache-2.0")
    sample.setting_arguments(parser.add_argument_group("how"))


def run(options: argparse.Namespace) -> None:
    """Write the export and print how far it is from the model."""
    from sid2core.exporting import folder, formats
    from sid2core.exporting.exported import Exported
    from sid2core.inference.public import load_model
    from sid2core.inference.request import Request

    formats.of_name(options.format)
    folder.check_target(options.to)
    with sample.options_named():
        values = sample.choices(options)
        if options.guidance is not None:
            values.pop("negative_model", None)
        request = Request.of(**values)
        exported = Exported.of(load_model(request.model), request)
    differences = folder.write(exported, options.format, options.to, options.license)
    for case, share in differences:
        print(f"{case}: differs from our model by {share:.1e} of the maximum")
    print(f"{options.to}: {options.format}, {request.model}")
