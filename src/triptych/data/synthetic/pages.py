"""A stand-in for Kaggle's Denoising Dirty Documents: rendered pages of text, each scanned under four kinds of dirt."""

import re
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from triptych.data.synthetic.dirt import STAINS, scan
from triptych.data.synthetic.fonts import load_font
from triptych.data.synthetic.noise import to_uint8

WIDTH, HEIGHTS = 540, (420, 258, 420)
FONTS = (
    *("cmr10", "cmti10", "cmss10", "cmtt10", "STIXGeneral", "STIXGeneralItalic", "STIXGeneralBol"),
    *("DejaVuSerif", "DejaVuSerif-Italic", "DejaVuSans", "DejaVuSans-Oblique"),
    *("DejaVuSansMono", "DejaVuSansMono-Oblique"),
)
HEADING_FONTS = ("cmb10", "DejaVuSans-Bold", "DejaVuSerif-Bold", "STIXGeneralBol")

VOCABULARY = {
    "noun": "archive basket bridge captain clerk copper corridor diary engine ferry garden glacier harbour "
    "harvest island kettle lantern ledger letter machine map market meadow mirror morning museum "
    "neighbour notebook orchard painter paper pendulum porch quarry railway river road sailor schoolroom "
    "shelf signal station stream tailor telescope tower traveller valley village violin visitor wagon "
    "watchmaker window winter workshop",
    "adjective": "ancient blue broad broken careful cold common distant dusty early empty faint familiar foreign "
    "gentle green heavy hidden honest iron late little lonely narrow northern old ordinary pale patient "
    "quiet second small steep strange tall tired warm western wooden young",
    "verb": "borrowed built carried chose closed counted crossed described drew examined followed found forgot "
    "gathered heard kept lifted lost mended moved noticed opened painted passed praised reached "
    "remembered repaired sold studied turned watched",
    "adverb": "again already always calmly carefully easily finally gladly hardly later nearly never often once "
    "quickly rarely slowly soon twice usually",
    "link": "above across after against along before behind beside beyond during inside near over past through "
    "toward under without",
    "join": "although and because but once so until when where while",
}
WORDS = {kind: words.split() for kind, words in VOCABULARY.items()}
CLAUSES = (
    "the adjective noun verb the noun",
    "a noun adverb verb the adjective noun link the noun",
    "the noun link the noun verb room number of the noun",
    "every noun verb its noun adverb",
    "no noun verb the adjective noun link that noun",
    "one noun of the adjective noun adverb verb it",
)


def sentence(rng: np.random.Generator) -> str:
    """Draw a grammatical but meaningless sentence of one or two clauses."""
    slots = str(rng.choice(CLAUSES))
    if rng.random() < 0.55:
        slots += f"{rng.choice([',', ',', ',', ';'])} join {rng.choice(CLAUSES)}"
    words = []
    for slot in slots.split():
        kind = slot.rstrip(",;")
        word = str(rng.integers(11, 2000)) if kind == "number" else str(rng.choice(WORDS.get(kind, [kind])))
        words.append(word + slot[len(kind) :])
    text = re.sub(r"\ba (?=[aeiou])", "an ", " ".join(words))
    return text[0].upper() + text[1:] + str(rng.choice([".", ".", ".", ".", ".", ".", ".", ".", "?", "!"]))


def text_lines(rng: np.random.Generator, font: ImageFont.FreeTypeFont, width: float, count: int) -> list[str]:
    """At least ``count`` lines of paragraphs, broken to ``width`` pixels; a paragraph starts with an indent."""
    lines: list[str] = []
    while len(lines) < count:
        line = "   "
        for word in "  ".join(sentence(rng) for _ in range(rng.integers(3, 7))).split(" "):
            longer = f"{line} {word}" if line else word
            if font.getlength(longer) > width:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    return lines


def draw_table(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, font: ImageFont.FreeTypeFont, top: float, step: float
) -> float:
    """Draw a small ruled table of words and numbers; return the height (pixels) below it."""
    rows, columns = int(rng.integers(3, 5)), int(rng.integers(3, 5))
    left, column = rng.uniform(15, 60), rng.uniform(95, 115)
    for row in range(rows):
        for k in range(columns):
            number = f"{rng.uniform(0, 400):.{rng.integers(0, 3)}f}"
            cell = str(rng.choice(WORDS["noun"])) if row == 0 or k == 0 else number
            draw.text((left + k * column + 4, top + 4 + row * step), cell, font=font, fill=0)
    right, bottom = left + columns * column, top + rows * step + 6
    for y in (top, top + step + 2, bottom):
        draw.line((left, y, right, y), fill=0, width=1)
    return bottom + 0.6 * step


def render_page(rng: np.random.Generator, height: int) -> np.ndarray:
    """Draw a clean page: uint8, shape (height, 540), black text on white, cut off like a crop of a larger sheet."""
    page = Image.new("L", (WIDTH, height), 255)
    draw = ImageDraw.Draw(page)
    size = rng.uniform(17, 21) if height < 300 else rng.uniform(19, 30)
    name = str(rng.choice(FONTS))
    # DejaVu is about a fifth wider and taller than the others at the same nominal size.
    size *= 0.8 if name.startswith("DejaVu") else 1.0
    font, step = load_font(name, size), size * rng.uniform(1.12, 1.5)
    left, top = rng.uniform(6, 16), rng.uniform(-0.4 * size, 0.6 * size)
    if rng.random() < 0.3:
        words = " ".join(rng.choice(WORDS[kind]) for kind in ("adjective", "noun")).capitalize()
        heading = f"{rng.integers(1, 9)}.{rng.integers(1, 9)}  {words}"
        heading_font = load_font(str(rng.choice(HEADING_FONTS)), 1.25 * size)
        draw.text((left, max(top, 4)), heading, font=heading_font, fill=0)
        top = max(top, 4) + 2.2 * size
        if rng.random() < 0.5:
            draw.line((left, top - 0.5 * size, WIDTH - left, top - 0.5 * size), fill=0, width=int(rng.integers(1, 3)))
    table_at = int(rng.integers(2, 5)) if rng.random() < 0.25 else -1
    # Most crops cut through wide lines; some hold the whole column.
    width = WIDTH - 2 * left if rng.random() < 0.35 else rng.uniform(1.05, 1.6) * WIDTH
    for number, line in enumerate(text_lines(rng, font, width, int(height / step) + 2)):
        if number == table_at:
            top = draw_table(draw, rng, load_font(name, 0.85 * size), top + 0.3 * step, step)
        draw.text((left, top), line, font=font, fill=0)
        top += step
    return np.asarray(page)


def page_numbers(pages: int) -> list[tuple[str, list[int]]]:
    """Split and file numbers of every clean page, as on Kaggle: 1, 4, 7, ... are test, a page's scans are 3 apart."""
    labelled = [("train", [12 * (k // 2) + 2 + k % 2 + 3 * j for j in range(4)]) for k in range(pages)]
    return labelled + [("test", [12 * k + 1 + 3 * j for j in range(4)]) for k in range((pages + 1) // 2)]


def write_pages(folder: Path, *, pages: int = 12, seed: int = 0) -> None:
    """Write ``folder/{train,train_cleaned,test}/N.png``: 8-bit gray, 540 pixels wide, 420 or 258 high.

    Each of the ``pages`` labelled pages appears four times: in ``train`` under each kind of dirt (coffee, folds,
    footprints, crumpling), in ``train_cleaned`` as the same clean picture. ``test`` holds half as many other pages
    (rounded up), dirty only. The same ``pages`` and ``seed`` give the same bytes.
    """
    if pages < 1:
        raise ValueError(f"pages must be at least 1, not {pages}")
    for name in ("train", "train_cleaned", "test"):
        Path(folder, name).mkdir(parents=True, exist_ok=True)
    for index, (split, numbers) in enumerate(page_numbers(pages)):
        clean = render_page(np.random.default_rng((seed, 0, numbers[0])), HEIGHTS[index % len(HEIGHTS)])
        for number, stain in zip(numbers, STAINS, strict=True):
            noisy = scan(clean / 255, stain, np.random.default_rng((seed, 1, number)))
            Image.fromarray(to_uint8(noisy)).save(Path(folder, split, f"{number}.png"))
            if split == "train":
                Image.fromarray(clean).save(Path(folder, "train_cleaned", f"{number}.png"))
