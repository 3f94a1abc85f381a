"""`explain`: what a loss, a weighting, a sampler, a correction or a strategy does, with computed curves and tables.

Text is in Markdown, ``pages/<name>.md``; Python computes the charts, tables and numbers that it names, by calling
Counterpoise's own functions. A page is read line by line:

=============================  =====================================================================================
``{name}`` or ``{name:.2f}``   a placeholder: a hyperparameter of the method, or a value of `page.Content`; a literal
                               brace is doubled
first paragraph                the summary
``## Costs``, ``## Notes``     lists of items that start with ``- ``; each cost says what to do about it
``## <any other title>``       a section, with any number of paragraphs, charts, tables and pictures, and at most one
                               equation, one code block and one reference
``[chart: id] Title | Caption``  a chart of the content
``[table: id] Caption | Note``   a table of the content; the note is optional
``[pictures: id] Caption``       pictures of the content
``$$`` … ``$$``                an equation in LaTeX, one formula per line, without placeholders
a ``python`` code block        code that runs as it stands; a test runs it
``Reference: …``               the source
``[include: name]``            inserts ``pages/shared/<name>.md``, text that several pages share
=============================  =====================================================================================

Paragraphs and items end at a blank line or where the next item or directive starts. Anything else, an unknown
placeholder, chart or table, and content that the page does not show are errors that name the page and the line.

To explain a new method: write its page, and a function that returns its `page.Content` into the dict of its kind
(``LOSS_PAGES``, ``WEIGHT_PAGES``, …). A test fails for a strategy, scheme or loss without one. The table of
hyperparameters of a page comes from `counterpoise.core.hyperparameters`.
"""

from counterpoise.workflow.explain.assemble import explain, explainable

__all__ = ["explain", "explainable"]
