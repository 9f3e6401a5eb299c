"""Stacks as a picture: each function a bar below the one that called it, as wide as its share of the time.

One rule: a plain SVG that any browser shows; a bar says on hover what it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from zlib import crc32

WIDTH, HEIGHT = 1_600, 17  # of the picture, of a bar
NARROWEST = 0.5  # a bar that would be narrower is left out, with all below it
LETTER = 6.2  # wide, about
FONT = 'font-family="monospace" font-size="11"'


@dataclass(slots=True)
class Bar:
    """A function, called in one way."""

    seconds: float = 0.0  # of CPU time, what it calls included
    below: dict[str, Bar] = field(default_factory=dict)


def icicle(stacks: Mapping[str, float], title: str) -> str:
    """The picture of these stacks, each with its seconds."""
    root = Bar()
    for stack, seconds in stacks.items():
        bar = root
        bar.seconds += seconds
        for name in stack.split(";"):
            bar = bar.below.setdefault(name, Bar())
            bar.seconds += seconds
    drawn = bars(root, root.seconds, 0.0, 0)
    deepest = max(depth for depth, _ in drawn) + 1
    height = (deepest + 1) * HEIGHT + 10
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {FONT}>',
            f'<text x="4" y="13" font-weight="bold">{escape(title)}</text>',
            *(text for _, text in drawn),
            "</svg>\n",
        ]
    )


def bars(bar: Bar, total: float, left: float, depth: int) -> list[tuple[int, str]]:
    """All bars below one, each with how deep it lies; the widest first."""
    drawn: list[tuple[int, str]] = []
    for name, one in sorted(bar.below.items(), key=lambda item: -item[1].seconds):
        width = WIDTH * one.seconds / total
        if width < NARROWEST:
            break
        drawn.append((depth, rectangle(name, one.seconds / total, left, width, depth)))
        drawn += bars(one, total, left, depth + 1)
        left += width
    return drawn


def rectangle(name: str, share: float, left: float, width: float, depth: int) -> str:
    """One bar."""
    top = (depth + 1) * HEIGHT + 4
    room, _, function = name.rpartition(":")
    shown = function[: int(width / LETTER)] if width > 3 * LETTER else ""
    lightness = 60 + crc32(name.encode()) % 20
    color = f"hsl({210 if room.startswith('raysweep/') else 30}, 60%, {lightness}%)"
    return (
        f'<g><title>{escape(name)}: {share:.1%}</title><rect x="{left:.1f}" y="{top}"'
        f' width="{width:.1f}" height="{HEIGHT - 1}" fill="{color}"/>'
        f'<text x="{left + 2:.1f}" y="{top + 12}">{escape(shown)}</text></g>'
    )
