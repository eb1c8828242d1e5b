"""Lines of Python, JavaScript, Kotlin and Swift that turn a photo into what an exported model takes.

No resize of a browser or a telephone is Pillow's, so the lines do its arithmetic: the filter's values as weights, across and then
down, rounded after each, as in https://github.com/python-pillow/Pillow/blob/main/src/libImaging/Resample.c. The tests run those
of Python and of JavaScript.
"""

from __future__ import annotations

from importlib import resources

from ffe.images.resize import fill_colour, goal
from ffe.specs import PreprocessSpec


def python_code(spec: PreprocessSpec | None, name: str) -> str:
    """Return the lines that make ``name``, uint8 (1, height, width, 3), of a file; ``spec`` None = the photo keeps its size."""
    lines = [
        'photo = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGBA")',
        'photo = Image.alpha_composite(Image.new("RGBA", photo.size, "white"), photo).convert("RGB")',
    ]
    if spec is not None:
        lines += _python_resize(spec)
    return "\n".join([*lines, f"{name} = np.asarray(photo, np.uint8)[None]"])


def _python_resize(spec: PreprocessSpec) -> list[str]:
    (tall, wide), (height, width) = goal(spec), spec.size
    method = f"Image.Resampling.{spec.interpolation.upper()}"
    theirs = spec.placement == "huggingface"
    if spec.resize is None:
        new = f"({wide}, {tall})"
    elif spec.resize == "shortest" and tall == wide:
        new = f"[{tall} * side // min(photo.size) for side in photo.size]"
    elif spec.resize == "longest" and theirs:
        new = f"[max(1, int(side * min({tall} / photo.height, {wide} / photo.width))) for side in photo.size]"
    else:
        choose = "min" if spec.resize == "shortest" else "max"
        new = f"[max(1, round(side / {choose}(photo.height / {tall}, photo.width / {wide}))) for side in photo.size]"
    lines = [f"photo = photo.resize({new}, {method})"]
    half = "({} - {}) // 2" if theirs else "round(({} - {}) / 2)"
    if spec.resize == "shortest" or spec.crop is not None:
        left, top = (half.format(f"photo.{side}", n) for side, n in (("width", width), ("height", height)))
        if spec.resize == "longest":
            left, top = (f"max(0, {place})" for place in (left, top))
            lines.append(f"left, top = {left}, {top}")
            lines.append(f"photo = photo.crop((left, top, min(photo.width, left + {width}), min(photo.height, top + {height})))")
        else:
            lines.append(f"left, top = {left}, {top}")
            lines.append(f"photo = photo.crop((left, top, left + {width}, top + {height}))")
    if spec.resize == "longest":
        place = "(0, 0)" if theirs else f"(({width} - photo.width) // 2, ({height} - photo.height) // 2)"
        lines.append(f'whole = Image.new("RGB", ({width}, {height}), {fill_colour(spec)})')
        lines.append(f"whole.paste(photo, {place})")
        lines.append("photo = whole")
    return lines


def other_code(language: str, spec: PreprocessSpec | None) -> str | None:
    """Return the lines of ``js``, ``kt`` or ``swift`` that make ``pixels``, the bytes that the model takes of one photo.

    They read a photo as it is, and where there is a spec, do Pillow's resize, by functions that stand above what calls them: so
    they may be copied into a function, too. None where they would have to fill a picture up, or to cut another shape than a
    square out of it.
    """
    photo = _template(f"photo.{language}")
    begin = {"js": "const", "kt": "val", "swift": "let"}[language]
    if spec is None:
        return f"{photo}{begin} pixels = rgb // uint8 (1, height, width, 3)"
    tall, wide = goal(spec)
    square = spec.resize == "shortest" and tall == wide
    if not (square or spec.resize is None) or spec.interpolation not in _FILTERS:
        return None
    reach, *filters = _FILTERS[spec.interpolation]
    cover = _COVER[language].format(tall) if square else ""
    words = {
        "REACH": reach,
        "FILTER": filters[("js", "kt", "swift").index(language)],
        "HALF": _half(spec, language),
        "ACROSS": cover.replace("SIDE", "width") or wide,
        "DOWN": cover.replace("SIDE", "height") or tall,
        "WIDTH": spec.size[1],
        "HEIGHT": spec.size[0],
    }
    text = f"{_template(f'resize.{language}')}\n{photo}{begin} pixels = resized(rgb, width, height)"
    for name, value in words.items():
        text = text.replace(f"@{name}@", str(value))
    return text


_CUBIC = "(1.5 * d - 2.5) * d * d + 1", "((-0.5 * d + 2.5) * d - 4) * d + 2"
_TERNARY = f"d < 1 ? {_CUBIC[0]} : d < 2 ? {_CUBIC[1]} : 0"
# how far a filter reaches, and its value at a distance d, in each language
_FILTERS = {
    "bilinear": (1, "Math.max(0, 1 - d)", "maxOf(0.0, 1 - d)", "max(0, 1 - d)"),
    "bicubic": (2, _TERNARY, f"if (d < 1) {_CUBIC[0]} else if (d < 2) {_CUBIC[1]} else 0.0", _TERNARY),
}
_COVER = {
    "js": "Math.floor({} * SIDE / Math.min(width, height))",
    "kt": "{} * SIDE / minOf(width, height)",
    "swift": "{} * SIDE / min(width, height)",
}


def _half(spec: PreprocessSpec, language: str) -> str:
    """Return half of n, a whole number: of an odd one timm rounds it to the even number, Hugging Face down."""
    text = "n >> 1" if spec.placement == "huggingface" else "(n + ((n >> 1) & n & 1)) >> 1"
    return text.replace(">>", "shr").replace("&", "and") if language == "kt" else text


def _template(name: str) -> str:
    return (resources.files("ffe.exporting") / "templates" / name).read_text("utf-8")
