"""Reports: write any artifact as HTML, Markdown, JSON, SVG or PNG with `render`.

Notes for maintainers
---------------------
The data flow is artifact → `Page` → file, and each step knows only the previous one:

* ``collect_*.py`` decides on the content. Each takes an artifact and returns a `Page` (``page.py``): sections of text,
  tables of formatted cells, and figures with their charts. Averages over seeds are taken here; no later step computes.
* ``collect_pictures.py`` selects small images of the data, ``outcomes.py`` finds mistakes in saved predictions, and
  ``pictures.py`` limits the number of images and their bytes. Pixels come from a `Thumbnails`, such as a dataset.
* ``charts.py`` builds Vega-Lite charts from rows of numbers; ``theme.py`` has their colours and marks.
* ``html.py`` with ``templates/``, ``markdown.py`` and ``rendering.py`` (JSON, SVG, PNG) write files.

Rules that the tests enforce: a page loads nothing. Its content security policy allows our two scripts and our style
sheet by their hash, no ``eval`` and no inline style (Vega uses its expression interpreter, ``ast: true``; our tooltip
writes text nodes only). Names from the data go through `formatting.one_line` (one line, no control characters, limited
length), then through jinja2's autoescaping or `html._json_text`. Figures show at most 40 classes and 8 strategies, and
images have at most 3 MB, so that the size of a page does not grow with the data. Every dash has a reason. A strategy
keeps its colour and mark.

To add a figure: a function in ``charts.py`` that returns a specification, a function in the ``collect`` module that
returns a `Figure` with a text alternative and a table of the same numbers, and its place in a section.
"""

from counterpoise.workflow.report.rendering import Renderable, render, render_html

__all__ = ["Renderable", "render", "render_html"]
