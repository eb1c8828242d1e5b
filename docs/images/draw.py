"""Draw report.png, explain.png and serve.png again: python docs/images/draw.py (it needs Chromium, to look at pages).

What is shown is a report of ffe on its own drawings, with nothing added: six of
them lie in the wrong folder, and the page says which. A part of it is left
out here, so that the rest can be read. explain.png shows two drawings that the
model has not seen, and where it saw what it says. serve.png is the page of the
server, with the same two and a file that is none.
"""

import contextlib
import sys
import tempfile
from pathlib import Path

from PIL import Image

import ffe
from ffe.images.drawings import KINDS, draw, draw_folder

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.chromium import Tab, drop
from tests.serving.served import png, served

COUNT = 100
MISLABELLED = [("cat", 7), ("cat", 42), ("cat", 88), ("dog", 3), ("dog", 30), ("dog", 66)]
STYLE = """<style>
body { padding: 1.25rem 1.5rem; } h1, header nav, .facts, section > p { display: none; }
.headline { margin: 0; } main { display: grid; grid-template-columns: 23rem 1fr; gap: 0 2.5rem; }
section { display: none; margin: 1rem 0 0; padding: .9rem 0 0; }
#confusion, #labels, #map { display: block; } #map { grid-column: 2; grid-row: 1 / span 2; }
section h2 { font-size: 1.1rem; } #labels { margin: 0; } .gallery { gap: .5rem 1rem; } .shot .path { display: none; }
</style></head>"""


def explain(model: Path, folder: Path) -> None:
    """Explain two new drawings, and put the pictures side by side."""
    with contextlib.chdir(folder):  # the pictures name their files
        for kind in KINDS:
            draw(kind, 500, (224, 224)).save(f"{kind}.png")
        files = [folder / str(found.picture) for found in ffe.explain(model, [f"{kind}.png" for kind in KINDS], output="why")]
    first, second = (Image.open(file).convert("RGB") for file in files)
    both = Image.new("RGB", (first.width + second.width, max(first.height, second.height)), first.getpixel((0, 0)))
    both.paste(first, (0, 0))
    both.paste(second, (first.width, 0))
    both.save(Path(__file__).with_name("explain.png"), optimize=True)


def serve(model: Path, tab: Tab) -> None:
    """Drop two new drawings and a text on the page of the server, and ask why of the first."""
    files = {f"{kind}.png": png(kind, 500, (224, 224)) for kind in KINDS} | {"notes.jpg": b"no picture"}
    with served(model) as server:
        tab.open(f"http://127.0.0.1:{server.port}/", 860, 400)
        drop(tab, files)
        tab.until("document.querySelectorAll('.photo:not(.is-open) .seen:not(:empty)').length === 3")
        tab.run("document.querySelector('.acts button').click();")
        tab.until("document.querySelector('.why img')?.complete")
        tab.screenshot(Path(__file__).with_name("serve.png"))


def main() -> None:
    """Draw, extract, tune, explain, and take pictures of the pages."""
    with tempfile.TemporaryDirectory() as folder:
        photos, page = Path(folder) / "photos", Path(folder) / "report.html"
        draw_folder(photos, COUNT, (224, 224))
        for kind, number in MISLABELLED:
            file = photos / kind / f"{kind}_{number:03d}.png"
            file.rename(photos / ("dog" if kind == "cat" else "cat") / file.name)
        ffe.extract(photos, Path(folder) / "features.h5")
        ffe.tune(Path(folder) / "features.h5", Path(folder) / "model.ffe", heads=["svm", "logistic"], trials=12, report=page)
        explain(Path(folder) / "model.ffe", Path(folder))
        page.write_text(page.read_text("utf-8").replace("</head>", STYLE, 1), "utf-8")
        tab = Tab(Path(folder) / "browser")
        tab.open(page.as_uri(), 1080, 700, 1.5)
        tab.screenshot(Path(__file__).with_name("report.png"), whole=False)
        serve(Path(folder) / "model.ffe", tab)
        tab.close()


if __name__ == "__main__":
    main()
