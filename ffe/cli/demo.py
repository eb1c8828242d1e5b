"""``ffe demo``."""

from __future__ import annotations

from pathlib import Path

import click

from ffe.base.text import bytes_text, counted
from ffe.cli.predict import prediction_text
from ffe.cli.progress import ExtractProgress, TrialsProgress
from ffe.cli.tune import print_result

_SIZE = 224
_COUNT = 40


@click.command(short_help="See the whole job on drawn pictures, in under two minutes.")
@click.option("-o", "--output", default="ffe-demo", type=click.Path(), help="Folder for what the demo makes.")
def command(output: str) -> None:
    """Draw cats and dogs, extract, tune two heads, and predict one picture.

    Works without a network, on real features: the backbone and its weights come
    with ffe. Says at the end what to do with photos of your own.
    """
    from ffe.base.output_file import check_output_folder
    from ffe.commands.tune import tune
    from ffe.engines.model_cache import cache_folder
    from ffe.errors import SourceError
    from ffe.extraction.run import extract
    from ffe.images.drawings import draw, draw_folder
    from ffe.predictor import Predictor

    folder = Path(output)
    names = ("pictures", "features.h5", "model.ffe", "new.png", "report.html", ".ffe-demo")
    pictures, features, model, new, report, marker = (folder / name for name in names)
    check_output_folder(folder, "output", SourceError, option="--output")
    if folder.is_dir() and any(folder.iterdir()) and not marker.exists():
        raise SourceError(f"The folder '{folder}' has files that are not the demo's; name a new folder with --output.")
    folder.mkdir(parents=True, exist_ok=True)
    marker.touch()
    draw_folder(pictures, _COUNT, (_SIZE, _SIZE))
    draw("dog", _COUNT, (_SIZE, _SIZE)).save(new)
    click.echo(f"Drew {2 * _COUNT} pictures of cats and dogs into '{pictures}'.\n")

    click.echo(f"$ ffe extract {pictures} -o {features}")
    with ExtractProgress() as progress:
        summary = extract(pictures, features, overwrite=True, progress=progress)
    click.echo(f"{features}: {counted(summary.rows, 'row')}, {summary.skipped:,} skipped\n")

    click.echo(f"$ ffe tune {features} -o {model} --heads logistic,dense --trials 4 --epochs 30 --report {report} --overwrite")
    with TrialsProgress() as view:
        result = tune(
            features, model, overwrite=True, heads=("logistic", "dense"), trials=4, epochs=30, report=report, on_progress=view
        )
    print_result(result, str(model), str(report), as_json=False)

    click.echo(f"\n$ ffe predict {model} {new}")
    for prediction in Predictor(model, batch_size=1).predict([new]):
        click.echo(prediction_text(prediction))
    click.echo("It shows a dog.")
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    click.echo(
        f"""
Everything works. Drawn pictures are easy to tell apart, so these scores say nothing about photos.
The report is a page for your browser: {report.resolve()}

Now your own photos, in one folder per class (photos/cat, photos/dog, ...):

  ffe extract photos -o features.h5
  ffe tune features.h5 -o model.ffe --report report.html
  ffe predict model.ffe new.jpg

And to see what is on any photo, without a model of your own: ffe label new.jpg

The demo left {bytes_text(size)} in '{folder}'; delete that folder when you have seen it.
The converted backbone stays in '{cache_folder()}' for the next run; 'ffe cache' shows and clears it."""
    )
