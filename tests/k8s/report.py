"""Counts checks: each is a sentence, and holds unless an exception leaves it."""

import contextlib
import sys


class Report:
    """Prints what failed, and at last how many passed."""

    def __init__(self):
        self.passed = 0
        self.failed = 0

    @contextlib.contextmanager
    def check(self, sentence):
        """The body of a `with` is one check."""
        try:
            yield
        except Exception as error:  # What is not there raises something else than an assertion.
            self.failed += 1
            text = str(error) if isinstance(error, AssertionError) else repr(error)
            print(f"FAILED: {sentence}\n    " + text.replace("\n", "\n    "), file=sys.stderr)
        else:
            self.passed += 1

    def none(self, sentence, problems):
        """A check that holds when the list `problems` is empty."""
        with self.check(sentence):
            problems = list(problems)
            assert not problems, "\n".join(problems[:20])

    def close(self):
        """The closing line, and the exit code."""
        print(f"{self.passed} passed, {self.failed} failed")
        return 1 if self.failed else 0
