"""``ffe evaluate``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ffe.base.text import counted, few, plain, quoted, share_text
from ffe.cli import UrlOrPath
from ffe.cli.options import AUGMENT_HELP, json_option, predict_options, refuse_swapped, report_option
from ffe.cli.progress import ExtractProgress
from ffe.cli.show import print_json

if TYPE_CHECKING:
    from ffe.commands.evaluate import EvaluateResult

_FEW = 10
_LONGEST = 1000


@click.command(short_help="Score a model on a feature file, or on a folder of labelled images.", epilog=AUGMENT_HELP)
@click.argument("model", type=click.Path())
@click.argument("data", metavar="FEATURES|SOURCE", type=UrlOrPath())
@click.option("--unseen", is_flag=True, help="Leave out images that the model was fitted or chosen on.")
@predict_options
@report_option()
@click.option("--csv", type=click.Path(), help="Write a CSV with every answer: path, label, sure, truth, probabilities.")
@click.option("--answers", is_flag=True, help="With --json: every answer too.")
@json_option(help="Print the scores as JSON.")
def command(model: str, data: str, answers: bool, as_json: bool, **options: Any) -> None:
    """Score MODEL on a feature file of the same spec, or on a folder or CSV of labelled images."""
    from ffe.commands.evaluate import evaluate
    from ffe.wording.results import answered_text, evaluation_text

    refuse_swapped(model, (data,), "evaluate")
    if answers and not as_json:
        raise click.UsageError("--answers goes with --json; --csv writes every answer into a file.")
    with ExtractProgress() as progress:
        result = evaluate(model, data, progress=progress, **options)
    if result.skipped:
        was = counted(result.skipped, "file was", "files were")
        click.echo(f"{was} left out ({few(quoted(map(plain, result.skipped_files)))}): no label, or not readable", err=True)
    if as_json:
        print_json(result.to_json(answers=answers))
    else:
        click.echo(evaluation_text(result.evaluation.to_json()))
        if len(result.wrong):
            click.echo("\n" + "\n".join(_wrong(result)))
        if result.answered.threshold:
            click.echo("\n" + answered_text(result.answered.to_json()))
    for path, what in ((options["report"], "the report"), (options["csv"], "every answer")):
        if path is not None:
            click.echo(f"{path}: {what}", err=as_json)


def _wrong(result: EvaluateResult) -> list[str]:
    """Return which photos were named wrongly, the surest mistakes first, a line for each."""
    lines = [f"Named wrongly: {counted(len(result.wrong), 'photo')} of {len(result.labels):,}, the surest first."]
    for i in result.wrong[:_FEW].tolist():
        row, truth = result.probabilities[i], result.classes[result.labels[i]]
        said = f"is {truth}, called {result.classes[int(row.argmax())]} ({share_text(row.max())})"
        lines.append(plain(f"  {result.paths[i]}: {said}", _LONGEST))
    if (more := len(result.wrong) - _FEW) > 0:
        lines.append(f"  and {more:,} more; --csv FILE lists all, --report FILE.html shows them")
    return lines
