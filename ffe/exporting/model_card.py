"""The card beside an exported model, in Hugging Face's format: facts for programs on top, and for people below.

https://huggingface.co/docs/hub/model-cards
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from ffe.backbones.families import LICENCES, licence_of
from ffe.base.text import counted
from ffe.bundle.card import limits_text, made_and_tested
from ffe.bundle.manifest import Manifest
from ffe.exporting.resize_code import other_code, python_code
from ffe.specs import PreprocessSpec
from ffe.wording.input_text import resizing_text
from ffe.wording.results import interval_text

_LANGUAGES = {"js": ("JavaScript", "js"), "kt": ("Kotlin (Android)", "kotlin"), "swift": ("Swift (iOS, macOS)", "swift")}


def export_card(
    manifest: Manifest,
    *,
    sha256: str,
    format: str,
    precision: str,
    inputs: Mapping[str, PreprocessSpec | None],
    run: str,
    proof: Sequence[str],
) -> str:
    """Return the card of an exported model, Markdown under a block of YAML.

    Args:
        manifest: of the model file.
        sha256: ``Bundle.sha256`` of the model file.
        format, precision: of the export, by their names.
        inputs: the names of its inputs, and the pixels that each takes; None = a photo of any size.
        run: the lines of Python that turn arrays of the inputs' names into ``probabilities``.
        proof: what was found when the file was opened and asked, in sentences.
    """
    licences = {
        spec.backbone.name: licence_of(spec.backbone.name) if spec.backbone.weights in {"file", "finetuned"} else ""
        for spec, _ in manifest.backbones
    }
    return f"""---
{_front_matter(manifest, format)}
---

# {made_and_tested(manifest)}

## What the file takes and gives

{_contract(manifest, inputs)}

Precision: {precision}. Made from the model file with the digest
`{sha256}`.

## Proof

{chr(10).join(f"- {sentence}" for sentence in proof)}

## Use

Python:

```python
{_python(inputs, run, manifest.class_names)}
```

{_others(inputs)}

## Limits

{limits_text(manifest)}

## Licence

{_licence(licences)}
"""


def _front_matter(manifest: Manifest, format: str) -> str:
    """Return the facts as YAML; texts are quoted as in JSON, which YAML has too.

    It names no licence: the model is its maker's to license, and what its backbone asks stands in the section on that.
    """
    facts = ["pipeline_tag: image-classification", "tags:", "- image-classification", "- ffe", f"- {format}"]
    test = manifest.evaluation["test"]
    scores = {name: test[name] for name in ("accuracy", "balanced_accuracy", "log_loss") if test.get(name) is not None}
    facts += [
        "model-index:",
        f"- name: {json.dumps('Image classifier: ' + ', '.join(manifest.class_names), ensure_ascii=False)}",
        "  results:",
        "  - task: {type: image-classification}",
        f"    dataset: {{type: imagefolder, name: {json.dumps(counted(test['n'], 'image') + ' held out')}}}",
        "    metrics:",
    ]
    for name, value in scores.items():
        interval = interval_text(test.get("intervals", {}).get(name)).strip(" ()")
        told = f", name: {json.dumps(f'{name}, {interval}')}" if interval else ""
        facts.append(f"    - {{type: {name}, value: {value:.4f}{told}}}")
    return "\n".join(facts)


def _contract(manifest: Manifest, inputs: Mapping[str, PreprocessSpec | None]) -> str:
    lines = []
    for name, spec in inputs.items():
        if spec is None:
            lines.append(f"- `{name}`: one photo of any size, uint8 (1, H, W, 3). The file resizes it, as Pillow does.")
            continue
        (height, width), how = spec.size, resizing_text(spec) or f"stretched to {spec.size[0]}x{spec.size[1]}, bilinear"
        lines.append(f"- `{name}`: photos, uint8 (N, {height}, {width}, 3), {how}, by Pillow's filter of that name.")
    classes = "\n".join(f"{number}. {json.dumps(name, ensure_ascii=False)}" for number, name in enumerate(manifest.class_names))
    return f"""{chr(10).join(lines)}
- Values are 0 to 255, red, green, blue; scaling is part of the file. Photos stand upright: turned as EXIF says. Transparent
  pixels show white. Values of 16 bits have to be brought to 8 first.
- It gives `probabilities`: float32 (N, {len(manifest.class_names)}), calibrated, summing to 1, of these classes in this order:

{classes}"""


def _python(inputs: Mapping[str, PreprocessSpec | None], run: str, class_names: Sequence[str]) -> str:
    lines = ["import numpy as np", "from PIL import Image, ImageOps", ""]
    lines += [python_code(spec, name) for name, spec in inputs.items()]
    lines += ["", run, f"print({json.dumps(list(class_names), ensure_ascii=False)}[int(np.argmax(probabilities[0]))])"]
    return "\n".join(lines)


def _others(inputs: Mapping[str, PreprocessSpec | None]) -> str:
    """Return how other languages read a photo, and resize it where the file does not."""
    specs = list(inputs.values())
    texts = [other_code(language, specs[0]) for language in _LANGUAGES] if len(specs) == 1 else [None]
    if None in texts:
        return (
            "What browsers and telephones do to resize a picture is not what Pillow does, and answers change with it. "
            "Resize with the lines above, or export the model with `--image`: then the file takes photos as they are."
        )
    why = (
        "The file takes photos as they are"
        if specs[0] is None
        else "No resize of a browser or a telephone is Pillow's, and answers change with it, so these lines do its arithmetic"
    )
    blocks = [f"{why}. `pixels` are the bytes of the input `{next(iter(inputs))}`."]
    for text, (title, fence) in zip(texts, _LANGUAGES.values(), strict=True):
        blocks.append(f"<details><summary>{title}</summary>\n\n```{fence}\n{text}\n```\n\n</details>")
    return "\n\n".join(blocks)


def _licence(licences: Mapping[str, str]) -> str:
    lines = []
    for name, licence in licences.items():
        asks = f" {LICENCES[licence]}" if licence in LICENCES else ""
        lines.append(f"The weights of `{name}`, which are inside: {licence or 'not known to ffe'}.{asks}")
    lines += [
        "The photos that it learnt from may have terms of their own.",
        "The card names no licence of the whole: choose one.",
    ]
    return "\n".join(lines)
