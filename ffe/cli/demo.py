"""``ffe demo``."""

from __future__ import annotations

from pathlib import Path

import click

from ffe.cli.output import ExtractProgress, SearchView
from ffe.cli.predict import prediction_text
from ffe.cli.tune import print_result

_BACKBONE = "mobilenet_0.25"
_SIZE = 128
_COUNT = 40


@click.command(short_help="See the whole job on drawn pictures, in under two minutes.")
@click.option("-o", "--output", default="ffe-demo", show_default=True, type=click.Path(), help="Folder for what the demo makes.")
def command(output: str) -> None:
    """Draw cats and dogs, extract, tune two heads, and predict one picture.

    Works without a network: where no weights can be had, it says so and goes
    on with random ones.
    """
    from ffe.errors import SourceError, WeightsError
    from ffe.extraction.plan import make_spec
    from ffe.extraction.run import extract
    from ffe.images.synthetic import draw, draw_folder
    from ffe.predict import Predictor
    from ffe.workflows import tune

    folder = Path(output)
    pictures, features, model, new = folder / "pictures", folder / "features.h5", folder / "model.ffe", folder / "new.png"
    if folder.exists() and not folder.is_dir():
        raise SourceError(f"'{folder}' is a file; name a folder with --output.")
    marker = folder / ".ffe-demo"
    if folder.is_dir() and any(folder.iterdir()) and not marker.exists():
        raise SourceError(f"The folder '{folder}' has files that are not the demo's; name a new folder with --output.")
    folder.mkdir(parents=True, exist_ok=True)
    marker.touch()
    draw_folder(pictures, _COUNT, (_SIZE, _SIZE))
    draw("dog", _COUNT, (_SIZE, _SIZE)).save(new)
    click.echo(f"Drew {2 * _COUNT} pictures of cats and dogs into '{pictures}'.\n")

    weights = "imagenet"
    try:
        make_spec(_BACKBONE, _SIZE)
    except WeightsError:
        weights = "random"
        click.echo(
            f"The pretrained weights of {_BACKBONE} are not here and cannot be downloaded: "
            "going on with --weights random. Real work needs real weights.\n"
        )
    extra = "" if weights == "imagenet" else " --weights random"
    click.echo(f"$ ffe extract {pictures} -o {features} --backbone {_BACKBONE} --size {_SIZE}{extra}")
    with ExtractProgress() as progress:
        summary = extract(pictures, features, backbone=_BACKBONE, size=_SIZE, weights=weights, overwrite=True, progress=progress)
    click.echo(f"{features}: {summary.rows} rows, {summary.skipped} skipped\n")

    click.echo(f"$ ffe tune {features} -o {model} --heads logistic,dense --trials 4 --epochs 30")
    with SearchView() as view:
        result = tune(features, model, heads=("logistic", "dense"), trials=4, epochs=30, on_progress=view)
    print_result(result, str(model), None, as_json=False)

    click.echo(f"\n$ ffe predict {model} {new}")
    for prediction in Predictor(model, batch_size=1).predict([new]):
        click.echo(prediction_text(prediction))
    click.echo("It shows a dog.")
    if weights == "random":
        click.echo("With random weights such answers, and the scores above, are little better than tossing a coin.")
    click.echo(f"\nEverything is in '{folder}'. Now your own photos: one folder per class, and the same commands.")
