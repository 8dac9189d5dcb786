"""How each thing went, said as it goes."""

import time

from tree import Failed


class Report:
    """Says how each thing went, as it goes."""

    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def tell(self, what, do):
        """Runs it. Whether it went well."""
        start = time.monotonic()
        try:
            said = do()
        except (Failed, KeyError, ValueError, OSError, StopIteration) as error:
            self.failed += 1
            print(f"FAIL  {what}\n      {type(error).__name__}: {error}", flush=True)
            return False
        if isinstance(said, tuple) and said[0] == "skip":
            self.skipped += 1
            print(f"----  not looked at: {what}\n      because {said[1]}", flush=True)
            return True
        self.passed += 1
        print(f"ok    {what} ({time.monotonic() - start:.1f} s)", flush=True)
        return True

    def close(self):
        """The last line, and the status to end with."""
        print(f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped")
        return 1 if self.failed else 0
