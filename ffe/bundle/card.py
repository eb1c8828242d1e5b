"""The model card: what a model file says of itself, for people."""

from __future__ import annotations

from ffe.base.text import listed, share_text
from ffe.bundle.manifest import Manifest
from ffe.wording.input_text import resizing_texts
from ffe.wording.results import FITTED_ON_ALL, evaluation_text, parameters_text, trained_views_text

_TRAINED = {
    "random": " (UNTRAINED, random weights: for trying things out only)",
    "finetuned": " (fine-tuned on these classes)",
    "scratch": " (trained from scratch on these classes)",
}


def model_card(manifest: Manifest) -> str:
    """Return the model card that travels in a bundle, Markdown."""
    return f"""# {made_and_tested(manifest)}

## Use

    ffe predict MODEL.ffe IMAGE

{limits_text(manifest)}
"""


def made_and_tested(manifest: Manifest) -> str:
    """Return what a model is, how it was made and how it did in its test: a title, and Markdown under it."""
    test = manifest.evaluation["test"]
    views = "" if manifest.views is None else f"\nViews of the photos: {trained_views_text(manifest.views)}."
    fitted = f"\nIt is fitted on {FITTED_ON_ALL}." if manifest.search.get("refit") == "all" else ""
    fitted += "".join(f"\nApproximate: {text}." for text in manifest.search.get("approximations", ()))
    resizing = f"\nPictures are {text}." if (text := resizing_texts(spec for spec, _ in manifest.backbones)) else ""
    backbones = []
    for spec, layout in manifest.backbones:
        features = "" if layout.grid else f", features {layout}"
        height, width = spec.preprocess.size
        backbones.append(f"`{spec.backbone.name}`{_TRAINED.get(spec.backbone.weights, '')} at {height}x{width} pixels{features}")
    made_with = f"Backbone {backbones[0]}" if len(backbones) == 1 else f"Backbones {listed(backbones, 'and')}, side by side"
    return f"""Image classifier: {", ".join(manifest.class_names)}

Made with ffe {manifest.ffe_version}. {made_with};
head `{manifest.head.name}` ({parameters_text(manifest.head.parameters)}).{resizing}{views}{fitted}

## Test

On images that the model had not seen; in brackets how far a score may be off, as intervals of 95 %:

```
{evaluation_text(test)}
```"""


def limits_text(manifest: Manifest) -> str:
    """Return what a model is not to be trusted with."""
    unsure = f" Below {share_text(manifest.reject)} it says that it is not sure." if manifest.reject else ""
    return f"""\
The model knows the classes above and nothing else: it answers with one of them for any picture at all.{unsure} Its scores
hold for pictures like those that it was made from. Where the classes describe people, they are a guess from looks,
with the biases of the photos and of the labels; do not use it to decide about anybody."""
