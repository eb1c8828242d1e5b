"""``ffe extract``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from ffe.backbones.catalog import DEFAULT
from ffe.base.shard_names import shard_path, shards_beside
from ffe.base.text import counted, duration_text, few, plain, quoted, quoted_argument
from ffe.cli import UrlOrPath
from ffe.cli import options as shared
from ffe.cli.progress import ExtractProgress
from ffe.cli.show import estimate_text, fidelity_text, note, print_json, rows_text, stages_text, unused

_NOTED = 0.1  # share of a run that converting the backbone, and all else but computing, may take without a word


@click.command(short_help="Push every image once through a backbone, into a feature file.", epilog=shared.AUGMENT_HELP)
@click.argument("source", type=UrlOrPath())
@shared.output_option(help="The feature file (HDF5) to write.")
@click.option(
    "--backbone",
    help="A name that 'ffe backbones' lists, timm:NAME, hf:NAME, a network in a file (.onnx, .xml, .keras), or a model file: its "
    f"backbone.  [default: that of OUTPUT, or {DEFAULT}]",
)
@shared.size_option()
@shared.weights_option(help="imagenet, random (untrained), or the path of a weights file, or of a model file.")
@click.option("--layer", help="Take the output of this layer, or of several: a,b.  [default: the last]")
@shared.preprocess_options
@shared.engine_option()
@click.option(
    "--precision",
    type=click.Choice(["float32", "int8", "mixed_float16", "mixed_bfloat16"]),
    help="Arithmetic of the backbone; int8 is for CPUs, the mixed ones are for GPUs.  [default: that of OUTPUT, or float32]",
)
@click.option("--like", type=click.Path(), help="For int8: take the quantised model of this feature file.")
@click.option(
    "--decode",
    type=click.Choice(["exact", "fast"]),
    help="How JPEG files are decoded; fast gives slightly other pixels.  [default: as in OUTPUT, or exact]",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16"]),
    help="Type of the stored features.  [default: that of OUTPUT, or float32]",
)
@shared.compress_option
@shared.images_options
@click.option(
    "--views",
    type=click.IntRange(0, 1000),
    help="Changed copies of each image that trains, in rows of their own; 0 drops them.  [default: as before, or none]",
)
@click.option("--augment", help="How the views differ; see below.  [default: as before]")
@click.option(
    "--shards",
    metavar="N",
    help="Spread the rows over N feature files, which OUTPUT shows as one; 3/8: make only the third of eight.  "
    "[default: as before, or 1]",
)
@click.option(
    "--runner", type=click.Choice(["local", "ray"]), default="local", help="Compute here, or on the machines of a Ray cluster."
)
@click.option("--address", help="Of the cluster: auto, HOST:PORT or ray://HOST:PORT.  [default: RAY_ADDRESS, or a new one here]")
@click.option("--actors", type=click.IntRange(1), help="Processes on the cluster.  [default: one for up to eight cores or a GPU]")
@shared.overwrite_option
@click.option("--rehash", is_flag=True, help="Read all files, also those whose size and time of change are as they were.")
@click.option("--prune", is_flag=True, help="Drop rows of photos that are gone, however many: else most of them is refused.")
@click.option("--dry-run", is_flag=True, help="Only say what there is to do, and what it takes.")
@shared.strict_option(help="Leave with code 1 if files were skipped.")
@shared.json_option()
def command(source: str, output: str, dry_run: bool, strict: bool, as_json: bool, **options: Any) -> None:
    """Push every image of SOURCE once through a frozen backbone, into a feature file.

    SOURCE is a folder with one folder per class; a folder of splits (train,
    valid, test) with classes inside; a CSV with the columns path,label[,split];
    a flat folder of unlabelled images; or an archive or table of images (tar,
    zip, Parquet), or several, as "shard-{000..009}.tar". Run the same command
    again to go on after an interruption, or to take in new images: only they
    are computed.
    Where the output is there already and no backbone is named, its own is taken.
    """
    if dry_run:
        _dry_run(source, output, as_json, options)
        return
    from ffe.extraction.run import extract
    from ffe.extraction.shards import parse_shards

    with ExtractProgress() as progress:
        summary = extract(source, output, announce=progress.announce, progress=progress, **options)
    if as_json:
        print_json(summary.to_json())
    else:
        unit = "images" if summary.views is None else "rows"
        took = duration_text(summary.seconds)
        if summary.computed:
            took += f", {summary.images_per_second:.1f} {unit}/s"
            busy = summary.computed / summary.images_per_second
            if summary.seconds - busy > max(1.0, _NOTED * summary.seconds):
                took += f" in the {duration_text(busy)} of computing"
        rows = rows_text(summary.rows, summary.images, summary.views)
        if summary.copies:
            rows += f" ({counted(summary.copies, 'copy of another', 'copies of others')})"
        count, only = parse_shards(options["shards"])
        whole, shard = Path(output), only if count != 1 else 0
        place = summary.output if shard else output
        click.echo(f"{place}: {rows}, {summary.computed:,} computed, {summary.skipped:,} skipped, in {took}")
        if summary.changes.new < summary.images:
            counts = ("unchanged", "new", "changed", "removed", "renamed")
            click.echo(", ".join(f"{getattr(summary.changes, name):,} {name}" for name in counts))
        if summary.computed:
            note(f"{stages_text(summary.stages)}; {counted(summary.workers, 'thread')} decoded")
        if not shard and len(parts := shards_beside(whole)) > 1:
            note(
                f"The features lie in {counted(len(parts), 'file')} beside it, {parts[0][1]} to {parts[-1][1]}: keep them "
                f"together, or make one file of them with 'ffe pack {output} -o NEW.h5'."
            )
        if summary.fidelity is not None:
            click.echo(fidelity_text(summary.fidelity))
        if not summary.classes:
            note("no image has a label: to learn from them, give a folder with one folder per class, or a CSV with labels")
        if shard and count:
            lack = [f"{n}/{count}" for n in range(1, count + 1) if not shard_path(whole, n, count).exists()]
            first = f"--shards {few(lack)}, and when all are there, with " if lack else ""
            note(f"Next: the same command with {first}--shards {count}, which makes {output} of them")
        elif (summary.computed or (count or 1) > 1) and len(summary.classes) > 1:  # shards are joined without computing
            note(f"Next: ffe tune {quoted_argument(output)} -o {unused('model.ffe')}")
    if summary.skipped:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(summary.skipped_reasons.items()))
        names = few(quoted(map(plain, summary.skipped_files)))
        click.echo(f"skipped: {reasons} ({names}); 'ffe info {summary.output}' says why", err=True)
        if strict:
            sys.exit(1)


def _dry_run(source: str, output: str, as_json: bool, options: dict[str, Any]) -> None:
    from ffe.extraction.estimate import dry_run

    estimate = dry_run(source, output, **options)
    if as_json:
        print_json(estimate.to_json())
    else:
        click.echo("\n".join(estimate_text(estimate)))
    estimate.refuse()
