"""What can go wrong in a load run or a benchmark.

LoadTestError
├── LoadSettingsError    a setting that cannot be used; names it and the remedy
├── LoadRunError         the load process ended before its time
└── BenchError
    ├── MissingSubjectError   a program the benchmark compares with is not installed
    ├── SubjectFailedError    a subject did not start or died
    └── WrongAnswerError      an answer or a meter was not equal to the upstream's
"""

from __future__ import annotations


class LoadTestError(Exception):
    """Base of all errors of this package."""


class LoadSettingsError(LoadTestError):
    """A setting that cannot be used."""


class LoadRunError(LoadTestError):
    """The load process ended before its time."""


class BenchError(LoadTestError):
    """A benchmark could not be run, or its result would mean nothing."""


class MissingSubjectError(BenchError):
    """A program the benchmark compares with is not installed."""


class SubjectFailedError(BenchError):
    """A subject did not start, or died."""


class WrongAnswerError(BenchError):
    """An answer, or a meter, was not equal to the upstream's."""
