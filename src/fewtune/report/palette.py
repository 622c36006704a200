"""The colours of every chart, in a light scheme and in a dark one.

Owns which they are. Blue, vermilion and bluish green are those of https://jfly.uni-koeln.de/color/, told apart by every
common kind of colour vision; shape and position carry the meaning without them.
"""

CARD, INK, QUIET, GRID = "#ffffff", "#1f2933", "#5b6673", "#e3e7ec"
BLUE, BLACK, VERMILION, GREEN = "#0072b2", "#10202f", "#c04f00", "#00795a"
DARK = {
    CARD: "#171c22",
    INK: "#e6eaef",
    QUIET: "#a3adb8",
    GRID: "#2d353e",
    BLUE: "#5cb3e6",
    BLACK: "#f4f7fa",
    VERMILION: "#f0904d",
    GREEN: "#4cc9a0",
}
"""What each light colour becomes where the reader prefers a dark scheme."""
