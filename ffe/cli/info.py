"""``ffe info``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ffe.base.file_access import is_model
from ffe.base.text import bytes_text, counted, plain, share_text
from ffe.cli.options import json_option, refuse_picture
from ffe.cli.show import fidelity_text, print_json
from ffe.errors import BundleError, StoreError, one_line

if TYPE_CHECKING:
    from ffe.bundle.io import Bundle


@click.command(short_help="Show what is inside a feature file or a model.")
@click.argument("file", metavar="FEATURES|MODEL", type=click.Path())
@click.option("--splits", is_flag=True, help="Of a model: also list where each image went (train, valid, test, or left-out).")
@json_option(help="Print everything as JSON.")
def command(file: str, splits: bool, as_json: bool) -> None:
    """Show what is inside a feature file or a model file."""
    refuse_picture(file, "info")
    if is_model(Path(file)):
        _model(file, splits, as_json)
    elif splits:
        raise click.UsageError("--splits is for model files; a feature file shows its splits without it.")
    else:
        _features(file, as_json)


def _features(file: str, as_json: bool) -> None:
    from ffe.engines.quantize import Fidelity
    from ffe.extraction.views import views_text
    from ffe.store.journal_records import read_records
    from ffe.store.reader import FeatureStore
    from ffe.wording.results import facts_text, table

    rows = len({name for record in read_records(Path(file)) for name in record.names})
    unfinished = f"an unfinished run with {counted(rows, 'row')} lies beside it; run the same 'ffe extract' again to go on"
    if rows and not Path(file).exists():
        raise StoreError(f"'{file}' is not finished: {unfinished}.")
    with FeatureStore(file) as store:
        summary = store.summary() | ({"unfinished_rows": rows} if rows else {})
        if as_json:
            print_json(summary)
            return
        spec = store.spec
        images, views = summary["images"], summary["rows"] - summary["images"]
        kinds = f" ({counted(images, 'image')} and {counted(views, 'view')})" if summary["views"] else ""
        dims = f"{counted(store.dims, 'feature')} each ({store.layout})"
        lines = [
            ("rows", f"{summary['rows']:,}{kinds}, with {dims}, {spec.dtype}"),
            ("views", None if store.made_views is None else views_text(store.made_views)),
            ("file", f"{bytes_text(Path(file).stat().st_size)}, {_file_text(summary)}"),
            ("source", store.source),
            ("backbone", f"{spec.backbone.name}, {_weights_text(spec)}"),
            ("layer", spec.backbone.layer or None),
            *_spec_lines(spec),
            ("spec digest", store.spec_digest),
            ("unfinished", unfinished if rows else None),
            ("fidelity", fidelity_text(Fidelity(**summary["fidelity"])) if summary["fidelity"] else None),
            ("splits", ", ".join(f"{name} {count:,}" for name, count in summary["splits"].items()) or None),
        ]
        click.echo(facts_text(lines, 11) + "\n")
        counts = [*summary["class_counts"].items()]
        if summary["unlabelled"]:
            counts.append(("(unlabelled)", summary["unlabelled"]))
        click.echo(table(("class", "images"), [(name, f"{count:,}") for name, count in counts], right=(1,)))
        if store.skipped:
            click.echo("\n" + table(("skipped", "reason", "why"), [(s.path, s.reason, s.message) for s in store.skipped]))


def _file_text(summary: dict[str, Any]) -> str:
    if summary["parts"]:
        return "virtual: its features lie in " + ", ".join(summary["parts"])
    compressed = "not compressed" if summary["compression"] == "none" else f"compressed by {summary['compression']}"
    return f"{compressed}, {'with' if summary['checksums'] else 'without'} checksums"


def _spec_lines(spec: Any) -> list[tuple[str, str]]:
    """Return what both kinds of file say of the input and the arithmetic of their backbone."""
    from ffe.wording.input_text import input_text

    model = "" if spec.quantized_sha256 is None else f", model {spec.quantized_sha256[:12]}"
    numbers = [(name, getattr(spec.preprocess, name)) for name in ("mean", "std")]
    return [
        ("input", input_text(spec.preprocess)),
        *((name, ",".join(f"{number:g}" for number in values)) for name, values in numbers if values is not None),
        ("precision", spec.precision + model),
    ]


def _weights_text(spec: Any) -> str:
    if spec.backbone.weights == "random":
        return "RANDOM weights (untrained)"
    how = {"finetuned": "fine-tuned ", "scratch": "trained from scratch, "}.get(spec.backbone.weights, "")
    return f"{how}weights {spec.backbone.weights_sha256[:12]}"


def _model(file: str, splits: bool, as_json: bool) -> None:
    from ffe.bundle.io import Bundle

    bundle = Bundle(file)
    try:
        _show_model(bundle, splits, as_json)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:  # its scores may hold anything
        raise BundleError(f"The scores in the model file '{file}' cannot be read ({one_line(error)}); make it again.") from error


def _show_model(bundle: Bundle, splits: bool, as_json: bool) -> None:
    from ffe.wording import results as text

    manifest = bundle.manifest
    where = {row.path: row.split or "left-out" for row in bundle.splits()} if splits else {}
    if as_json:
        head = {"head": manifest.head.name, "parameters": manifest.head.parameters}
        record = manifest.to_json() | head | {"has_backbone": bundle.has_backbone, "digest": bundle.sha256}
        print_json(record | ({"splits": where} if splits else {}))
        return
    backbones = list[tuple[str, str | None]]()
    for number, (spec, layout) in enumerate(manifest.backbones):
        inside = "inside" if bundle.holds(number) else "not inside"
        backbones.append(("backbone", f"{spec.backbone.name}, {_weights_text(spec)}, {inside} the file"))
        backbones += [("features", None if layout.grid else str(layout)), *_spec_lines(spec)]
    lines = [
        ("head", text.head_text(manifest.head.name, manifest.head.parameters)),
        ("classes", plain(", ".join(manifest.class_names))),
        *backbones,
        ("joined", f"parts {', '.join(joined)}" if (joined := manifest.search.get("joined")) else None),
        ("digest", bundle.sha256),
        ("made with", ", ".join([f"ffe {manifest.ffe_version}", *(f"{n} {v}" for n, v in manifest.libraries.items())])),
        ("views", None if manifest.views is None else text.trained_views_text(manifest.views)),
        ("fitted on", text.FITTED_ON_ALL if manifest.search.get("refit") == "all" else None),
        ("nearly", "; ".join(manifest.search.get("approximations", ())) or None),
        ("not sure", f"below {share_text(manifest.reject)}" if manifest.reject else None),
        ("answers", text.calibration_text(manifest.calibration) if "error_before" in manifest.calibration else None),
    ]
    search, test = manifest.search, manifest.evaluation["test"]
    click.echo(f"{text.facts_text(lines, 11)}\n\nTest: {text.evaluation_text(test)}")
    if manifest.leaderboard:
        board = text.leaderboard_text(manifest.leaderboard, metric=search.get("metric", "accuracy"))
        tied = text.TIED if any(trial.get("tied") for trial in manifest.leaderboard[1:]) else ""
        choice = text.choice_text(manifest.leaderboard, search.get("metric", "accuracy"))
        choice = f"{search['validation']}; {choice}" if choice else search["validation"]
        click.echo(
            f"\nValidation: {choice}\n\n{board}\n{counted(len(manifest.leaderboard), 'trial')} (--json has all). "
            f"Spread: deviation over the folds; fit: one fit; size: the head alone.{tied}"
        )
    if search.get("comparison"):
        click.echo(f"\nFirst two heads: {text.comparison_text(search['comparison'], *search['rivals'])}.")
    if search.get("leak"):
        click.echo(f"\nTogether: {text.leak_text(search['leak'], test['accuracy'])}")
    if training := manifest.training:
        click.echo()
        for stage in training["stages"]:
            click.echo(f"Stage {stage['number']} trained {text.stage_text(stage, manifest.spec.backbone.name)}.")
        click.echo("\n" + text.history_text(training["history"]))
    if where:
        click.echo("\nsplit\tpath")
    for path, split in where.items():
        click.echo(f"{split}\t{plain(path, 4000)}")
