"""What a loss, a weighting, a sampler, a correction or a strategy does: `explain`.

Lessons (one module a family) call our own functions and autograd for every curve and number; `explaining.py` puts the
lessons of a strategy together; ``workflow/report`` draws. To add one: a function in its family's module that returns a
`Lesson`, and its name in that module's ``LESSONS``. A test fails for a catalog name, scheme or loss without one.
"""

from counterpoise.workflow.explain.explaining import explain, explainable

__all__ = ["explain", "explainable"]
