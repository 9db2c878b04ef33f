"""Which of Dagster's beta features are used here, so that their warnings say nothing new."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg


@contextmanager
def beta_accepted() -> Iterator[None]:
    """Build with BackfillPolicy and code references, which are beta, without a warning each time.

    Partitioned checks are preview, and warn as such.

    A test names what is relied on of each; warnings of other classes come through.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        warnings.simplefilter("ignore", dg.PreviewWarning)
        yield
