"""Draw the pictures in this folder again: python data/draw.py

They are ours, made by ffe.images.drawings, and may be used for anything. The
demo draws the same ones, only more of them.
"""

from pathlib import Path

from ffe.images.drawings import draw_folder

COUNT = 12
SIZE = (128, 128)

if __name__ == "__main__":
    draw_folder(Path(__file__).resolve().parent / "pictures", COUNT, SIZE)
